"""The MetricsSource port without a Prometheus: asks each running release itself."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from headrace import telemetry
from headrace.adapters.local import loopback
from headrace.ports import Counts, Deployer

_TIMEOUT_S = 1.0


class ScrapedMetrics:
    """Counters read from ``/metrics`` of every release that the deployer knows.

    Args:
        deployer: says what runs, and where.
    """

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer

    def counts(self, model: str) -> Mapping[int, Counts]:
        """Version to counters. One that gives no answer within a second, or no such metric, is not in it."""
        found = {}
        for endpoint in self._deployer.running(model):
            answer = loopback.get(f"{endpoint.url}/metrics", _TIMEOUT_S)
            counts = _counts(answer.body, model, endpoint.version) if answer and answer.status == 200 else None
            if counts is not None:
                found[endpoint.version] = counts
        return found


def _counts(body: bytes, model: str, version: int) -> Counts | None:
    """None when the text is broken or does not have the metric: no evidence is not the same as no requests."""
    wanted = {telemetry.MODEL: model, telemetry.VERSION: str(version)}
    declared, answers, errors = False, 0, 0
    try:
        for family in text_string_to_metric_families(body.decode()):
            declared = declared or family.name == telemetry.REQUESTS.removesuffix("_total")
            for sample in family.samples:
                if sample.name != telemetry.REQUESTS or not wanted.items() <= sample.labels.items():
                    continue
                answers += int(sample.value)
                if int(sample.labels[telemetry.STATUS]) >= telemetry.ERROR_STATUS:
                    errors += int(sample.value)
    except (ValueError, KeyError, OverflowError):
        return None
    return Counts(answers, errors) if declared else None
