"""What the log of a program complains of. Pure."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

_LEVELS = ("warning", "warn", "error", "critical")
_OTHER_EVERY_TIME = re.compile(r"/[^\s:]+|\d+(\.\d+)*|0x[0-9a-f]+")
_CHARS = 160


def complaints(lines: Iterable[str]) -> Counter[str]:
    """How often it complained of what; numbers and paths, which are others every time, are a dot."""
    found = Counter[str]()
    for line in lines:
        what = _complaint(line)
        if what:
            found[_OTHER_EVERY_TIME.sub("·", what)[:_CHARS]] += 1
    return found


def _complaint(line: str) -> str:
    try:
        event: Any = json.loads(line)
    except ValueError:
        return line.strip()
    if not isinstance(event, dict) or event.get("level") not in _LEVELS:
        return ""
    what = str(event.get("event") or event.get("message") or line)
    if what.startswith("Stack: "):
        return ""
    why = next((event[name] for name in ("reason", "why", "error", "exit_code") if event.get(name)), "")
    return f"{what}: {why}" if why else what
