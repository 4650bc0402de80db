"""What the service counts, under the names in `headrace.telemetry`."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest, multiprocess
from prometheus_client.registry import Collector

from headrace import telemetry
from headrace.domain.encoding import Matrix
from serving.model import LoadedModel, Predictions
from serving.view_values import Reason

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_AGE_S = (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 3 * 86_400, 7 * 86_400, 30 * 86_400)
_SHARES = tuple(round(0.05 * step, 2) for step in range(1, 21))
_ROUNDING = 1e-5
# What can be wrong with a request, by the status that says so.
_KINDS = {400: "invalid", 408: "slow_body", 413: "too_large", 415: "media_type", 500: "model", 503: "unavailable"}


class Families:
    """All metrics of a process, whichever versions it serves one after the other.

    Args:
        shared: a folder through which the workers of one service add up what they count; None for one process. The
            environment variable PROMETHEUS_MULTIPROC_DIR has to name it before prometheus-client is imported.
    """

    def __init__(self, shared: str | None = None) -> None:
        self._shared = shared
        self.registry = CollectorRegistry()
        self.requests = self._counter(telemetry.REQUESTS, "Requests for predictions by HTTP status.")
        self.refusals = self._counter(telemetry.REFUSALS, "Answers that are not a success, by what was wrong.")
        self.rows = self._counter(telemetry.ROWS, "Rows predicted.")
        self.nonfinite = self._counter(telemetry.NONFINITE_OUTPUTS, "Rows with a prediction of NaN or infinity.")
        self.impossible = self._counter(telemetry.OUTPUTS_OUT_OF_RANGE, "Rows with a probability beyond 0 and 1.")
        self.out_of_range = self._counter(telemetry.OUT_OF_RANGE, "Values outside the contract's range, by feature.")
        self.fallbacks = self._counter(telemetry.FEATURE_FALLBACKS, "Rows without a usable value from the store.")
        self.labels = self._counter(telemetry.LABELS_RECEIVED, "Labels taken in.")
        self.dropped = self._counter(telemetry.LOG_DROPPED, "Predictions that the log does not have.")
        self.reloads = self._counter(telemetry.RELOADS, "Times that the directory was loaded again.")
        self.duration = self._histogram(
            telemetry.REQUEST_DURATION, "From a request's headers to its answer, in seconds.", _SECONDS
        )
        self.age = self._histogram(telemetry.FEATURE_AGE, "Age of values from the online store, in seconds.", _AGE_S)
        self.ready = self._gauge(telemetry.READY, "1 while requests are welcome.", "livemin")
        self.in_flight = self._gauge(telemetry.IN_FLIGHT, "Requests under way.", "livesum")
        self.log_queue = self._gauge(telemetry.LOG_QUEUE, "Predictions that wait to be written.", "livesum")
        self._gauge(telemetry.STARTED, "When the oldest process started, in seconds since 1970.", "livemin").set(
            time.time()
        )
        self._scores = _Scores()
        self.registry.register(self._scores)

    def score(self, bounds: tuple[float, ...], release: tuple[str, str]) -> Histogram:
        """The score histogram of a version, with these bounds."""
        return self._scores.of(bounds, release)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format; of all workers, when there are several."""
        if self._shared is None:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        multiprocess.MultiProcessCollector(everyone, path=self._shared)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)

    def forget(self, model: str, version: int) -> None:
        """Remove what is labelled with a version that was swapped out, so that swaps do not make series for ever."""
        if self._shared is not None:
            return  # a worker can't remove what the others may still count
        for family in (*vars(self).values(), *self._scores.histograms()):
            names = getattr(family, "_labelnames", ())
            if names[:2] == telemetry.RELEASE_LABELS:
                for labels in [one for one in list(family._metrics) if one[:2] == (model, str(version))]:
                    family.remove(*labels)
        self._scores.tidy()

    def _counter(self, name: str, description: str) -> Counter:
        return Counter(name, description, telemetry.LABELS[name], registry=self.registry)

    def _gauge(self, name: str, description: str, mode: Any) -> Gauge:
        return Gauge(name, description, telemetry.LABELS[name], registry=self.registry, multiprocess_mode=mode)

    def _histogram(self, name: str, description: str, bounds: Sequence[float]) -> Histogram:
        return Histogram(name, description, telemetry.LABELS[name], buckets=bounds, registry=self.registry)


class _Scores(Collector):
    """One metric whose versions have different bounds, which a histogram of the library's has not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_bounds: dict[tuple[float, ...], Histogram] = {}

    def of(self, bounds: tuple[float, ...], release: tuple[str, str]) -> Histogram:
        with self._lock:
            if bounds not in self._by_bounds:
                labels = telemetry.LABELS[telemetry.SCORE]
                made = Histogram(telemetry.SCORE, "What was predicted.", labels, buckets=bounds, registry=None)
                self._by_bounds[bounds] = made
            # With the lock held: a histogram without a version is tidied away.
            return self._by_bounds[bounds].labels(*release)

    def histograms(self) -> list[Histogram]:
        with self._lock:
            return list(self._by_bounds.values())

    def tidy(self) -> None:
        """Forget the histograms of which no version is left."""
        with self._lock:
            self._by_bounds = {bounds: one for bounds, one in self._by_bounds.items() if one._metrics}

    def collect(self) -> Iterable[Metric]:
        found = [metric for one in self.histograms() for metric in one.collect()]
        for other in found[1:]:
            found[0].samples += other.samples
        return found[:1]


Counted = Mapping[tuple[str, Reason], int]


class Metrics:
    """The metrics of one model version.

    What happens with every request is told in bulk, by `serving.recorder`: to count a thousand rows costs about as
    much as to count one.
    """

    def __init__(self, model: LoadedModel, families: Families) -> None:
        self._families = families
        release = (model.name, str(model.version))
        self._release = release
        self._requests: dict[int, Counter] = {}
        self._rows = families.rows.labels(*release)
        self._nonfinite = families.nonfinite.labels(*release)
        self._impossible = families.impossible.labels(*release)
        self._is_probability = model.contract.task != "regression"
        self._ready = families.ready.labels(*release)
        self._duration = families.duration.labels(*release)
        self._score = families.score(score_bounds(model), release)
        features = model.contract.features
        self._out_of_range = [families.out_of_range.labels(*release, feature.name) for feature in features]
        self._ages = {view: families.age.labels(*release, view) for view in model.contract.views}
        # In float32, as the matrix is: the end of a range must not be outside itself.
        ends = [feature.range or (-np.inf, np.inf) for feature in features]
        self._low, self._high = np.array(ends, dtype=np.float32).T

    def answered(self, statuses: Mapping[int, int], elapsed_s: Sequence[float]) -> None:
        """Count requests: how many of each status, and how long each took."""
        for status, count in statuses.items():
            self._families.requests.labels(*self._release, str(status)).inc(count)
            if status >= 400:
                self._families.refusals.labels(*self._release, _KINDS.get(status, "other")).inc(count)
        observe(self._duration, np.array(elapsed_s))

    def predicted(self, matrix: Matrix, predictions: Predictions) -> None:
        """Count rows (n_rows, n_features) with their predictions, and values outside the contract's ranges."""
        self._rows.inc(len(matrix))
        observe(self._score, predictions if predictions.ndim == 1 else predictions.max(axis=1))
        if self._is_probability:
            # As wide as the rounding of a float32 sum.
            beyond = (predictions < -_ROUNDING) | (predictions > 1 + _ROUNDING)
            self._impossible.inc(int(beyond.reshape(len(matrix), -1).any(axis=1).sum()))
        outside = ((matrix < self._low) | (matrix > self._high)).sum(axis=0)
        for column in np.flatnonzero(outside):
            self._out_of_range[column].inc(int(outside[column]))

    def completed(self, fallbacks: Counted, ages_s: Mapping[str, Sequence[float]]) -> None:
        """Count what the online store gave and did not give: (view, reason) to rows, view to ages."""
        for (view, reason), count in fallbacks.items():
            self._families.fallbacks.labels(*self._release, view, reason).inc(count)
        for view, ages in ages_s.items():
            observe(self._ages[view], np.array(ages))

    def nonfinite(self, count: int) -> None:
        """Count rows whose prediction is not a number."""
        self._nonfinite.inc(count)

    def ready(self, is_ready: bool) -> None:
        """Say whether requests are welcome."""
        self._ready.set(is_ready)


def observe(histogram: Histogram, values: NDArray[Any]) -> None:
    """Observe many values at once: the same as `Histogram.observe` for each, which a test compares."""
    if not len(values):
        return
    bounds = histogram._upper_bounds
    counts = np.bincount(np.searchsorted(bounds, values, side="left"), minlength=len(bounds))
    # NaN is beyond infinity here: it is in no bucket, and in the sum.
    for bucket in np.flatnonzero(counts[: len(bounds)]):
        histogram._buckets[bucket].inc(int(counts[bucket]))
    histogram._sum.inc(float(values.sum(dtype=np.float64)))


def score_bounds(model: LoadedModel) -> tuple[float, ...]:
    """Bounds of the score histogram: steps of 0.05 for probabilities, else steps over the golden predictions' span."""
    if model.contract.task != "regression":
        return _SHARES
    low, high = model.golden_span
    step = (high - low) / 18 or 1.0
    # Once each: where the span is narrow, rounding makes equal ones, and no scraper takes a bucket twice.
    return tuple(sorted({float(f"{low + step * i:.6g}") for i in range(-1, 20)}))
