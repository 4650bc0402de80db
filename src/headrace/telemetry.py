"""Names of the metrics, and the form of the log: what services, adapters, rules and dashboards agree on."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

MODEL = "model"
VERSION = "version"
STATUS = "status"
FEATURE = "feature"

REQUESTS = "headrace_requests_total"
"""Answers, by model, version and status: the HTTP status code as text."""
REQUEST_DURATION = "headrace_request_duration_seconds"
"""Histogram by model and version: from the first byte of the request to the last of the answer."""
ROWS = "headrace_rows_total"
"""Rows predicted, by model and version."""
READY = "headrace_ready"
"""1 when the version takes requests, else 0; by model and version."""
OUT_OF_RANGE = "headrace_out_of_range_total"
"""Values outside the contract's range, by model, version and feature."""
NONFINITE_OUTPUTS = "headrace_nonfinite_outputs_total"
"""Predictions that were NaN or infinite, by model and version."""

RELEASE_LABELS = (MODEL, VERSION)
LABELS = {
    REQUESTS: (*RELEASE_LABELS, STATUS),
    REQUEST_DURATION: RELEASE_LABELS,
    ROWS: RELEASE_LABELS,
    READY: RELEASE_LABELS,
    OUT_OF_RANGE: (*RELEASE_LABELS, FEATURE),
    NONFINITE_OUTPUTS: RELEASE_LABELS,
}
ERROR_STATUS = 500
"""An answer with this status or above is an error of the service; one below it is not."""


class JsonLines(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `event`, and what `extra={"fields": {…}}` holds."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; a field never hides one of the first four."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        own = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            own["exception"] = self.formatException(record.exc_info)
        line = {**own, **fields, **own}
        try:
            return json.dumps(line, default=str, allow_nan=False)
        except ValueError:
            return json.dumps({**own, "fields": repr(fields)})


def configure(level: str = "INFO") -> None:
    """Send the log to stderr, one JSON object a line; stdout is for data. A second call replaces the first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
