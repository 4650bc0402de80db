"""What a service's log says about its end."""

import json
from collections.abc import Sequence

_CHARS = 600


def reason(lines: Sequence[str]) -> str:
    """The last words of a log: plain lines, and of the JSON lines those that say what went wrong."""
    said = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            said.append(line.strip())
            continue
        if isinstance(event, dict) and event.get("level") in ("error", "critical"):
            said.append(" ".join(str(event[key]) for key in ("event", "reason", "error") if event.get(key)))
    return " / ".join(said[-3:])[-_CHARS:]
