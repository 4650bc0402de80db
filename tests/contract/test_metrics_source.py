"""The MetricsSource port: the fake, and the metrics of running processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from headrace.adapters.local.process_deployer import ProcessDeployer
from headrace.adapters.local.scraped_metrics import ScrapedMetrics
from headrace.ports import Counts, MetricsSource
from tests.contract.conftest import MODEL
from tests.contract.traffic import client, post
from tests.fakes import FakeMetricsSource, model_version


class Harness(Protocol):
    """A source, and how to have something counted."""

    source: MetricsSource

    def serve(self, version: int) -> None: ...
    def answer(self, version: int, count: int, status: int) -> None: ...
    def silence(self, version: int) -> None: ...


class Fake:
    def __init__(self) -> None:
        self.source = FakeMetricsSource()

    def serve(self, version: int) -> None:
        self.source.serve(MODEL, version)

    def answer(self, version: int, count: int, status: int) -> None:
        self.source.answer(MODEL, version, count, status)

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
        fails.touch() if status >= 500 else fails.unlink(missing_ok=True)
        with client(self._urls[version]) as connection:
            for _ in range(count):
                assert post(connection, MODEL)[0] == status

    def silence(self, version: int) -> None:
        (self._directories[version] / "no_metrics").touch()


@pytest.fixture(params=["fake", "local"])
def harness(request: pytest.FixtureRequest) -> Harness:
    if request.param == "fake":
        return Fake()
    return Local(request.getfixturevalue("local_deployer"), request.getfixturevalue("model_directory"))


def test_nothing_runs_nothing_is_counted(harness: Harness) -> None:
    assert harness.source.counts(MODEL) == {}


def test_version_without_a_request_has_counted_none(harness: Harness) -> None:
    harness.serve(3)
    assert harness.source.counts(MODEL) == {3: Counts(0, 0)}


def test_answers_and_errors_are_counted_by_version(harness: Harness) -> None:
    harness.serve(3)
    harness.serve(4)
    harness.answer(3, 2, 200)
    harness.answer(4, 3, 200)
    harness.answer(4, 1, 500)
    assert harness.source.counts(MODEL) == {3: Counts(2, 0), 4: Counts(4, 1)}
    assert harness.source.counts("flight") == {}


def test_silent_version_is_left_out_and_hides_no_other(harness: Harness) -> None:
    harness.serve(3)
    harness.serve(4)
    harness.silence(4)
    assert harness.source.counts(MODEL) == {3: Counts(0, 0)}
