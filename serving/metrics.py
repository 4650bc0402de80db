"""What the service counts, under the names in `headrace.telemetry`."""

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from headrace import telemetry
from headrace.domain.encoding import Matrix
from serving.model import LoadedModel

_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The metrics of one model version, in a registry of their own."""

    def __init__(self, model: LoadedModel) -> None:
        self._registry = CollectorRegistry()
        self._release = {telemetry.MODEL: model.name, telemetry.VERSION: str(model.version)}
        self._requests = self._counter(telemetry.REQUESTS, "Predict requests by HTTP status.")
        self._rows = self._counter(telemetry.ROWS, "Rows predicted.").labels(**self._release)
        self._nonfinite = self._counter(
            telemetry.NONFINITE_OUTPUTS, "Rows for which the model answered NaN or infinity."
        ).labels(**self._release)
        self._ready = Gauge(
            telemetry.READY, "1 while requests are welcome.", telemetry.LABELS[telemetry.READY], registry=self._registry
        ).labels(**self._release)
        self._duration = Histogram(
            telemetry.REQUEST_DURATION,
            "From a predict request's headers to its answer, in seconds.",
            telemetry.LABELS[telemetry.REQUEST_DURATION],
            buckets=_BUCKETS_S,
            registry=self._registry,
        ).labels(**self._release)
        out_of_range = self._counter(telemetry.OUT_OF_RANGE, "Values outside the contract's range, by feature.")
        features = model.contract.features
        self._out_of_range = [out_of_range.labels(**self._release, **{telemetry.FEATURE: f.name}) for f in features]
        # In float32, as the matrix is: the end of a range must not be outside itself.
        ends = [feature.range or (-np.inf, np.inf) for feature in features]
        self._low, self._high = np.array(ends, dtype=np.float32).T

    def _counter(self, name: str, description: str) -> Counter:
        return Counter(name, description, telemetry.LABELS[name], registry=self._registry)

    def answered(self, status: int, elapsed_s: float) -> None:
        """Count a predict request."""
        self._requests.labels(**self._release, **{telemetry.STATUS: str(status)}).inc()
        self._duration.observe(elapsed_s)

    def predicted(self, matrix: Matrix) -> None:
        """Count the rows that were predicted, and their values outside the contract's ranges."""
        self._rows.inc(len(matrix))
        outside = ((matrix < self._low) | (matrix > self._high)).sum(axis=0)
        for column in np.flatnonzero(outside):
            self._out_of_range[column].inc(int(outside[column]))

    def nonfinite(self, count: int) -> None:
        """Count rows whose prediction is not a number."""
        self._nonfinite.inc(count)

    def ready(self, is_ready: bool) -> None:
        """Say whether requests are welcome."""
        self._ready.set(is_ready)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
