"""The MetricsSource port: the fake, and the metrics of running processes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from headrace import telemetry
from headrace.adapters.local.process_deployer import ProcessDeployer
from headrace.adapters.local.processes import Processes
from headrace.adapters.local.scraped_metrics import ScrapedMetrics
from headrace.domain.evidence import Counts
from headrace.ports import MetricsSource, Recent
from tests.contract.conftest import MODEL, eventually
from tests.contract.traffic import client, post
from tests.fakes import FakeMetricsSource, model_version

DURATIONS = {0.005: 1, 0.3: 4}
SCORES = {-1.5: 0, 0.05: 2, 1e-05: 1, 12345.5: 5}


def counts_text(rows: int, non_finite: int, impossible: int, fallbacks: int) -> str:
    """The stand-in's switch ``counts``."""
    counts: Mapping[str, Any] = {
        telemetry.ROWS: rows - non_finite,
        telemetry.NONFINITE_OUTPUTS: non_finite,
        telemetry.OUTPUTS_OUT_OF_RANGE: impossible,
        telemetry.FEATURE_FALLBACKS: fallbacks,
        telemetry.REQUEST_DURATION: {**DURATIONS, "+Inf": 5},
        telemetry.SCORE: {**SCORES, "+Inf": 6},
    }
    return json.dumps(counts)


class Harness(Protocol):
    """A source, and how to have something counted."""

    source: MetricsSource

    def serve(self, version: int) -> None: ...
    def answer(self, version: int, count: int, status: int) -> None: ...
    def predict(self, version: int, rows: int, non_finite: int, impossible: int, fallbacks: int) -> None: ...
    def tell(self, version: int, scores: Mapping[str, float]) -> None: ...
    def silence(self, version: int) -> None: ...


class Fake:
    def __init__(self) -> None:
        self.source = FakeMetricsSource()

    def serve(self, version: int) -> None:
        self.source.serve(MODEL, version)

    def answer(self, version: int, count: int, status: int) -> None:
        self.source.answer(MODEL, version, count, status)

    def predict(self, version: int, rows: int, non_finite: int, impossible: int, fallbacks: int) -> None:
        bad = non_finite + impossible
        more: dict[str, Any] = {"rows": rows, "bad_outputs": bad, "fallbacks": fallbacks}
        self.source.answer(MODEL, version, 0, durations=DURATIONS, scores=SCORES, **more)

    def tell(self, version: int, scores: Mapping[str, float]) -> None:
        self.source.tell(MODEL, version, scores)

    def silence(self, version: int) -> None:
        self.source.silence(MODEL, version)


class Local:
    def __init__(self, deployer: ProcessDeployer, make: Callable[..., Path]) -> None:
        self.source = ScrapedMetrics(deployer)
        self._deployer, self._make = deployer, make
        self._directories: dict[int, Path] = {}
        self._urls: dict[int, str] = {}

    def serve(self, version: int) -> None:
        self._directories[version] = self._make(version)
        endpoint = self._deployer.start(model_version(version), self._directories[version], timeout_s=60)
        self._urls[version] = endpoint.url

    def answer(self, version: int, count: int, status: int) -> None:
        fails = self._directories[version] / "fails"
        fails.write_text(str(status)) if status != 200 else fails.unlink(missing_ok=True)
        with client(self._urls[version]) as connection:
            for _ in range(count):
                assert post(connection, MODEL)[0] == status

    def predict(self, version: int, rows: int, non_finite: int, impossible: int, fallbacks: int) -> None:
        self.say(version, counts=counts_text(rows, non_finite, impossible, fallbacks))

    def tell(self, version: int, scores: Mapping[str, float]) -> None:
        said = {"version": version, "rows": [*scores], "scores": [*scores.values()], "probes": [False] * len(scores)}
        self.say(version, recent=json.dumps(said))

    def silence(self, version: int) -> None:
        (self._directories[version] / "no_metrics").touch()

    def say(self, version: int, **switches: str) -> None:
        for name, text in switches.items():
            (self._directories[version] / name).write_text(text)


@pytest.fixture
def scraped(local_deployer: ProcessDeployer, model_directory: Callable[..., Path]) -> Local:
    """Of stand-ins."""
    return Local(local_deployer, model_directory)


@pytest.fixture(params=["fake", "local", "cluster"])
def harness(request: pytest.FixtureRequest) -> Harness:
    if request.param == "fake":
        return Fake()
    return request.getfixturevalue("scraped" if request.param == "local" else "cluster_metrics")


def counted(harness: Harness) -> dict[int, Counts]:
    """Without when the processes started, which is another time each time."""
    return {version: replace(one, started_at=None) for version, one in harness.source.counts(MODEL).items()}


def test_nothing_runs_nothing_is_counted_or_told(harness: Harness) -> None:
    assert harness.source.counts(MODEL) == {}
    assert harness.source.recent(MODEL) == {}


def test_version_without_a_request_has_counted_none(harness: Harness) -> None:
    harness.serve(3)
    assert counted(harness) == {3: Counts(0, 0)}


def test_answers_errors_and_refusals_are_counted_by_version(harness: Harness) -> None:
    harness.serve(3)
    harness.serve(4)
    harness.answer(3, 2, 200)
    harness.answer(4, 3, 200)
    harness.answer(4, 1, 500)
    harness.answer(4, 2, 503)
    for status in (400, 413, 499):
        harness.answer(4, 1, status)
    assert counted(harness) == {3: Counts(2, 0), 4: Counts(9, 3, refusals=3)}
    assert harness.source.counts("flight") == {}


def test_rows_scores_and_durations_are_counted_and_one_that_is_not_finite_is_a_bad_row(harness: Harness) -> None:
    harness.serve(3)
    harness.answer(3, 5, 200)
    harness.predict(3, rows=6, non_finite=1, impossible=2, fallbacks=4)
    assert counted(harness) == {3: Counts(5, 0, DURATIONS, 6, 3, 4, SCORES)}


def test_silent_version_is_left_out_and_hides_no_other(harness: Harness) -> None:
    harness.serve(3)
    harness.serve(4)
    harness.silence(4)
    assert counted(harness) == {3: Counts(0, 0)}


def test_start_is_told_and_is_another_one_after_another_start(
    scraped: Local, local_deployer: ProcessDeployer, processes: Processes
) -> None:
    scraped.serve(3)
    scraped.answer(3, 2, 200)
    before = scraped.source.counts(MODEL)[3]
    assert before.started_at
    scraped.answer(3, 1, 200)
    came = scraped.source.counts(MODEL)[3].since(before)
    assert came is not None
    assert came.answers == 1
    process = psutil.Process(next(state.pid for state in processes.states() if state.name.endswith("v3")))
    process.kill()
    eventually(lambda: not process.is_running() and any(one.ready for one in local_deployer.running(MODEL)))
    # As many as before, which the number alone would not show.
    scraped.answer(3, 3, 200)
    after = scraped.source.counts(MODEL)[3]
    assert after.answers == 3
    assert after.since(before) is None


def test_latest_predictions_are_told_by_version(harness: Harness) -> None:
    harness.serve(3)
    harness.serve(4)
    harness.serve(5)
    harness.tell(3, {"a": 0.25, "b": 1 / 3})
    harness.tell(4, {"b": -12.5})
    assert harness.source.recent(MODEL) == {
        3: Recent({"a": 0.25, "b": 1 / 3}),
        4: Recent({"b": -12.5}),
    }
    assert harness.source.recent("flight") == {}


def test_share_of_rows_that_clients_repeat_is_told_without_probes(scraped: Local) -> None:
    scraped.serve(3)
    rows, probes = ["a", "a", "b", "a", "c", "c"], [False, False, False, False, True, True]
    said = {"version": 3, "rows": rows, "scores": [0.5] * 6, "probes": probes}
    scraped.say(3, recent=json.dumps(said))
    assert scraped.source.recent(MODEL) == {3: Recent({"a": 0.5, "b": 0.5, "c": 0.5}, 0.5)}


def test_broken_predictions_or_another_versions_are_none(scraped: Local) -> None:
    scraped.serve(3)
    scraped.tell(3, {"a": 0.5})
    assert scraped.source.recent(MODEL) == {3: Recent({"a": 0.5})}
    for said in (
        '{"version": 4, "rows": ["a"], "scores": [0.5], "probes": [false]}',
        '{"version": 3, "rows": ["a", "b"], "scores": [0.5], "probes": [false]}',
        '{"version": 3, "rows": ["a"], "scores": [NaN], "probes": [false]}',
        '{"version": 3, "rows": ["a"], "scores": [1e999], "probes": [false]}',
        f'{{"version": 3, "rows": ["a"], "scores": [1{"0" * 400}], "probes": [false]}}',
        '{"version": 3, "rows": ["a"], "scores": [null]}',
        '{"version": 3, "rows": [["a"]], "scores": [0.5], "probes": [false]}',
        '{"version": 3, "rows": 1, "scores": 2}',
        '{"version": 3}',
        '{"version": 3, "rows": ["a"',
        "[]",
        "3",
        "",
    ):
        scraped.say(3, recent=said)
        assert scraped.source.recent(MODEL) == {}, said


def test_version_whose_numbers_cant_be_taken_gives_none(scraped: Local) -> None:
    scraped.serve(3)
    release = 'model="flight_delay",version="3"'
    good = f'# TYPE headrace_requests_total counter\nheadrace_requests_total{{{release},status="200"}} 7.0\n'
    for more in (
        f'headrace_requests_total{{{release},status="500"}} NaN',
        f"headrace_requests_total{{{release}}} 1",
        f"# TYPE headrace_rows_total counter\nheadrace_rows_total{{{release}}} NaN",
        f"# TYPE headrace_rows_total counter\nheadrace_rows_total{{{release}}} +Inf",
        "# TYPE headrace_start_time_seconds gauge\nheadrace_start_time_seconds NaN",
        f'# TYPE headrace_score histogram\nheadrace_score_bucket{{{release},le="low"}} 1',
        f"# TYPE headrace_score histogram\nheadrace_score_bucket{{{release}}} 1",
        f'# TYPE headrace_score histogram\nheadrace_score_bucket{{{release},le="1.0"}} NaN',
        f"# TYPE headrace_rows_total counter\nheadrace_rows_total{{{release[:10]}",
    ):
        scraped.say(3, metrics=good)
        assert counted(scraped) == {3: Counts(7, 0)}
        scraped.say(3, metrics=f"{good}{more}\n")
        assert counted(scraped) == {}, more
    for other in ("", "\n", "<html>", good.replace("headrace_requests", "other")):
        scraped.say(3, metrics=other)
        assert counted(scraped) == {}, other


def test_other_versions_in_the_same_text_are_not_counted(scraped: Local) -> None:
    """What the service itself says, with what is left of a version that was swapped out."""
    from serving.metrics import Families

    scraped.serve(3)
    families = Families()
    for version, times in (("2", 100), ("3", 1)):
        release = (MODEL, version)
        for status, count in (("200", 5), ("422", 2), ("500", 3)):
            families.requests.labels(*release, status).inc(times * count)
        families.rows.labels(*release).inc(times * 7)
        families.nonfinite.labels(*release).inc(times * 2)
        families.impossible.labels(*release).inc(times)
        for reason in ("missing", "stale"):
            families.fallbacks.labels(*release, "weather", reason).inc(times * 4)
        for _ in range(times):
            families.duration.labels(*release).observe(0.02)
            families.score((0.5, 1.0) if version == "3" else (10.0, 20.0), release).observe(0.25)
    families.requests.labels("flight", "3", "500").inc(1000)
    scraped.say(3, metrics=families.exposition().decode())
    found = counted(scraped)[3]
    assert found == Counts(10, 3, found.durations, 9, 3, 8, {0.5: 1, 1.0: 1}, refusals=2)
    assert (found.durations[0.01], found.durations[0.025], found.durations[5.0]) == (0, 1, 1)
