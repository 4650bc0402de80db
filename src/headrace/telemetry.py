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
KIND = "kind"
VIEW = "view"
REASON = "reason"
OUTCOME = "outcome"

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
OUTPUTS_OUT_OF_RANGE = "headrace_outputs_out_of_range_total"
"""Predictions that are answered and can't be: probabilities below 0 or above 1; by model and version."""
REFUSALS = "headrace_refusals_total"
"""Answers that are not a success, by model, version and kind: what was wrong, of a fixed set of words."""
SCORE = "headrace_score"
"""Histogram by model and version of what was predicted: probability of the label, of the likeliest class, or value."""
IN_FLIGHT = "headrace_in_flight_requests"
"""Requests under way."""
FEATURE_AGE = "headrace_feature_age_seconds"
"""Histogram by model, version and view: how old a value from the online store was when a row was completed with it."""
FEATURE_FALLBACKS = "headrace_feature_fallbacks_total"
"""Rows for which the online store had no usable value, by model, version, view and reason."""
LABELS_RECEIVED = "headrace_labels_total"
"""Labels that were taken in, by model."""
LOG_DROPPED = "headrace_log_dropped_rows_total"
"""Predictions that are not in the prediction log, by reason: queue (the writer is behind) or disk (it can't write)."""
LOG_QUEUE = "headrace_log_queue_rows"
"""Predictions that wait to be written."""
RELOADS = "headrace_reloads_total"
"""Times that the service was told to load its directory again, by outcome: swapped or failed."""

STARTED = "headrace_start_time_seconds"
"""When the oldest process of the service started, in seconds since 1970: counters of another start are others."""

RECENT_PATH = "/recent"
"""Where a service tells its latest predictions, for comparison with another version's; not routed by the proxy."""

PROBE_ID = "headrace-probe-"
"""How the request ids of a rollout's own requests begin, in the prediction log too: their rows are the holdout's."""

RELEASE_LABELS = (MODEL, VERSION)
LABELS = {
    REQUESTS: (*RELEASE_LABELS, STATUS),
    REQUEST_DURATION: RELEASE_LABELS,
    ROWS: RELEASE_LABELS,
    READY: RELEASE_LABELS,
    OUT_OF_RANGE: (*RELEASE_LABELS, FEATURE),
    NONFINITE_OUTPUTS: RELEASE_LABELS,
    OUTPUTS_OUT_OF_RANGE: RELEASE_LABELS,
    REFUSALS: (*RELEASE_LABELS, KIND),
    SCORE: RELEASE_LABELS,
    IN_FLIGHT: (),
    FEATURE_AGE: (*RELEASE_LABELS, VIEW),
    FEATURE_FALLBACKS: (*RELEASE_LABELS, VIEW, REASON),
    LABELS_RECEIVED: (MODEL,),
    LOG_DROPPED: (REASON,),
    LOG_QUEUE: (),
    RELOADS: (OUTCOME,),
    STARTED: (),
}
ERROR_STATUS = 500
"""An answer with this status or above is an error of the service; one below it is not."""
REFUSED_STATUS = 400
"""From this status on, and below that of errors, the request is at fault."""

ROLE_HEADER = "Headrace-Role"
"""Request header of the proxy's: `stable`, `canary`, `previous` or `shadow`, whatever the client sent; none for a
version that only requests with its number reach."""


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
