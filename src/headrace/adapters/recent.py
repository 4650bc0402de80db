"""A service's answer about its latest predictions."""

import json
import math

from headrace.ports import Recent


def read_recent(body: bytes, version: int) -> Recent | None:
    """What it tells; None when it is not such a document, or another version's: one that was swapped in."""
    try:
        said = json.loads(body)
        if said["version"] != version:
            return None
        rows = said["rows"]
        sent = [row for row, is_probe in zip(rows, said["probes"], strict=True) if not is_probe]
        repeated = 1 - len(set(sent)) / len(sent) if sent else 0.0
        return Recent(dict(zip(rows, map(finite, said["scores"]), strict=True)), repeated)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def finite(value: float) -> float:
    """Raises ValueError for any other: what can't be compared is no evidence."""
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{value} is not finite")
    return number
