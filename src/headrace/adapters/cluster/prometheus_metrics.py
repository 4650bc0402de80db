"""The MetricsSource port on Prometheus: counters of all pods of a version, by our own labels."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from headrace import telemetry
from headrace.adapters.cluster.kubernetes_api import MODEL_LABEL, VERSION_LABEL
from headrace.adapters.cluster.reach import Pod, Reach
from headrace.adapters.recent import read_recent
from headrace.domain.evidence import Counts
from headrace.errors import Unavailable
from headrace.ports import Recent
from headrace.running import progress

_TIMEOUT_S = 5.0
_RECENT_TIMEOUT_S = 3.0
# What a pod had counted when it went is still part of what its version has answered, for so long.
_MEMORY = "6h"
_PORT = 8080
_COUNTERS = (
    telemetry.REQUESTS,
    telemetry.ROWS,
    telemetry.NONFINITE_OUTPUTS,
    telemetry.OUTPUTS_OUT_OF_RANGE,
    telemetry.FEATURE_FALLBACKS,
    f"{telemetry.REQUEST_DURATION}_bucket",
    f"{telemetry.SCORE}_bucket",
)
_METRIC = "metric"


class _Sample(NamedTuple):
    metric: str
    labels: Mapping[str, str]
    value: float


class PrometheusMetrics:
    """Counters from Prometheus; predictions from ``/recent`` of the pods, which no time series can hold.

    Args:
        url: Prometheus.
        namespace: of the releases; it is a label of their series.
        reach: how to ask.
    """

    def __init__(self, url: str, namespace: str, reach: Reach) -> None:
        self._url = url.rstrip("/")
        self._namespace = namespace
        self._reach = reach

    def counts(self, model: str) -> Mapping[int, Counts]:
        """Version to counters, added up over its pods. One that Prometheus does not reach now is not in it."""
        try:
            return _counts(self._query(query(model, self._namespace)))
        except Unavailable as silent:
            progress("deploy", str(silent))
            return {}

    def recent(self, model: str) -> Mapping[int, Recent]:
        """Version to the latest predictions of its pods. One whose pods give no answer is not in it."""
        by_version: dict[int, list[Recent]] = {}
        for pod in self._reach.ready(self._namespace, {MODEL_LABEL: model}):
            version = int(pod["metadata"]["labels"][VERSION_LABEL])
            where = Pod(self._namespace, pod["metadata"]["name"], _PORT)
            answer = self._reach.ask_pod(where, telemetry.RECENT_PATH, _RECENT_TIMEOUT_S)
            said = read_recent(answer.body, version) if answer and answer.status == 200 else None
            if said is not None:
                by_version.setdefault(version, []).append(said)
        return {version: _together(said) for version, said in by_version.items()}

    def _query(self, text: str) -> Sequence[_Sample]:
        """Raises Unavailable when Prometheus gives no answer that can be read."""
        answer = self._reach.ask(f"{self._url}/api/v1/query?{urlencode({'query': text})}", _TIMEOUT_S)
        if answer is None:
            raise Unavailable(f"Prometheus does not answer at {self._url}: there is no evidence until it does")
        try:
            said = json.loads(answer.body)
            if said["status"] != "success":
                raise Unavailable(f"Prometheus at {self._url} refuses the query: {said.get('error')}")
            return list(_samples(said["data"]["result"]))
        except (ValueError, LookupError, TypeError) as odd:
            raise Unavailable(f"what answers at {self._url} (status {answer.status}) is no Prometheus") from odd


def query(model: str, namespace: str) -> str:
    """One query for all counters, so that they are of one moment; samples have labels metric, version, status, le."""
    of = f'{{{telemetry.MODEL}="{model}",namespace="{namespace}"}}'
    counters = [f"sum by (version, status, le) (last_over_time({name}{of}[{_MEMORY}]))" for name in _COUNTERS]
    # A process has one start, whatever it serves; what it serves, `headrace_ready` says.
    serves = f"(0 * {telemetry.READY}{of} + 1)"
    start = f'{telemetry.STARTED}{{namespace="{namespace}"}}'
    started = f"min by (version) ({start} * on (namespace, pod) group_right () {serves})"
    named = zip((*_COUNTERS, telemetry.STARTED), (*counters, started), strict=True)
    return " or ".join(f'label_replace({text}, "{_METRIC}", "{name}", "", "")' for name, text in named)


def _samples(result: object) -> Iterator[_Sample]:
    if not isinstance(result, list):
        raise TypeError(f"{result!r} is no vector")
    for one in result:
        labels = dict(one["metric"])
        yield _Sample(labels.pop(_METRIC, ""), labels, float(one["value"][1]))


def _counts(samples: Sequence[_Sample]) -> dict[int, Counts]:
    """Of the versions that are reached now: those that say when they started."""
    found = {}
    for one in samples:
        if one.metric == telemetry.STARTED and one.labels[telemetry.VERSION].isdecimal():
            version = one.labels[telemetry.VERSION]
            try:
                of = [other for other in samples if other.labels.get(telemetry.VERSION) == version]
                found[int(version)] = _of(of)
            except (ValueError, KeyError, OverflowError):  # What can't be compared is no evidence.
                continue
    return found


def _of(samples: Sequence[_Sample]) -> Counts:
    """Raises ValueError or KeyError when a number or a label is none."""
    if not all(math.isfinite(one.value) for one in samples):
        raise ValueError("a counter is not finite")

    def total(metric: str, least: int = 0, below: int = 10_000) -> int:
        of = (one for one in samples if one.metric == metric)
        return sum(int(one.value) for one in of if least <= int(one.labels.get(telemetry.STATUS, 0)) < below)

    def buckets(metric: str) -> dict[float, int]:
        of = (one for one in samples if one.metric == f"{metric}_bucket")
        return {bound: int(one.value) for one in of if math.isfinite(bound := float(one.labels["le"]))}

    # Rows without a finite prediction are not among the predicted ones.
    not_finite = total(telemetry.NONFINITE_OUTPUTS)
    return Counts(
        answers=total(telemetry.REQUESTS),
        errors=total(telemetry.REQUESTS, telemetry.ERROR_STATUS),
        durations=buckets(telemetry.REQUEST_DURATION),
        rows=total(telemetry.ROWS) + not_finite,
        bad_outputs=total(telemetry.OUTPUTS_OUT_OF_RANGE) + not_finite,
        fallbacks=total(telemetry.FEATURE_FALLBACKS),
        scores=buckets(telemetry.SCORE),
        started_at=next((one.value for one in samples if one.metric == telemetry.STARTED), None),
        refusals=total(telemetry.REQUESTS, telemetry.REFUSED_STATUS, telemetry.ERROR_STATUS),
    )


def _together(said: Sequence[Recent]) -> Recent:
    """What all pods of a version told: a row that several have seen has one score."""
    scores = {row: score for one in said for row, score in one.scores.items()}
    sent = [(len(one.scores), one.repeated) for one in said]
    rows = sum(count for count, _ in sent)
    return Recent(scores, sum(count * repeated for count, repeated in sent) / rows if rows else 0.0)
