"""The MetricsSource port without a Prometheus: asks each running release itself."""

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from headrace import telemetry
from headrace.adapters.local import loopback
from headrace.adapters.recent import finite, read_recent
from headrace.domain.evidence import Counts
from headrace.ports import Deployer, Recent

_TIMEOUT_S = 1.0

T = TypeVar("T")


class ScrapedMetrics:
    """Counters read from ``/metrics`` of every release that the deployer knows, and predictions from ``/recent``.

    Args:
        deployer: says what runs, and where.
    """

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer

    def counts(self, model: str) -> Mapping[int, Counts]:
        """Version to counters. One that gives no answer within a second, or no such metric, is not in it."""
        return self._asked(model, "/metrics", lambda body, version: _counts(body, model, version))

    def recent(self, model: str) -> Mapping[int, Recent]:
        """Version to its latest predictions. One that gives no answer within a second is not in it."""
        return self._asked(model, telemetry.RECENT_PATH, read_recent)

    def _asked(self, model: str, path: str, read: Callable[[bytes, int], T | None]) -> Mapping[int, T]:
        found = {}
        for endpoint in self._deployer.running(model):
            answer = loopback.get(f"{endpoint.url}{path}", _TIMEOUT_S)
            said = read(answer.body, endpoint.version) if answer and answer.status == 200 else None
            if said is not None:
                found[endpoint.version] = said
        return found


def _counts(body: bytes, model: str, version: int) -> Counts | None:
    """None when the text is broken or does not have the metric: no evidence is not the same as no requests."""
    try:
        families = {family.name: family for family in text_string_to_metric_families(body.decode())}
        found = _Release(families, {telemetry.MODEL: model, telemetry.VERSION: str(version)})
        if telemetry.REQUESTS.removesuffix("_total") not in families:
            return None
        # Rows without a finite prediction are not among the predicted ones.
        not_finite = found.sum(telemetry.NONFINITE_OUTPUTS)
        return Counts(
            answers=found.sum(telemetry.REQUESTS),
            errors=found.sum(telemetry.REQUESTS, _is_error),
            durations=found.buckets(telemetry.REQUEST_DURATION),
            rows=found.sum(telemetry.ROWS) + not_finite,
            bad_outputs=found.sum(telemetry.OUTPUTS_OUT_OF_RANGE) + not_finite,
            fallbacks=found.sum(telemetry.FEATURE_FALLBACKS),
            scores=found.buckets(telemetry.SCORE),
            started_at=found.value(telemetry.STARTED),
            refusals=found.sum(telemetry.REQUESTS, _is_refusal),
        )
    except (ValueError, KeyError, OverflowError):
        return None


class _Release:
    """The samples of one release."""

    def __init__(self, families: Mapping[str, Metric], labels: Mapping[str, str]) -> None:
        self._families = families
        self._labels = labels

    def sum(self, metric: str, wanted: Callable[[Sample], bool] = lambda sample: True) -> int:
        return sum(int(one.value) for one in self._samples(metric, metric) if wanted(one))

    def buckets(self, metric: str) -> dict[float, int]:
        samples = self._samples(metric, f"{metric}_bucket")
        return {bound: int(one.value) for one in samples if math.isfinite(bound := float(one.labels["le"]))}

    def value(self, metric: str) -> float | None:
        """Of a metric of the process, without a release."""
        family = self._families.get(metric)
        return finite(family.samples[0].value) if family and family.samples else None

    def _samples(self, metric: str, name: str) -> list[Sample]:
        family = self._families.get(metric.removesuffix("_total"))
        if family is None:
            return []
        return [one for one in family.samples if one.name == name and self._labels.items() <= one.labels.items()]


def _is_error(sample: Sample) -> bool:
    return int(sample.labels[telemetry.STATUS]) >= telemetry.ERROR_STATUS


def _is_refusal(sample: Sample) -> bool:
    return telemetry.REFUSED_STATUS <= int(sample.labels[telemetry.STATUS]) < telemetry.ERROR_STATUS
