"""The Outcomes port: the fake, and the log of predictions and labels."""

from pathlib import Path
from typing import Protocol

import pytest

from headrace.adapters.labelled_log import LabelledLog
from headrace.domain.sequences import Tally
from headrace.ports import Outcomes
from serving.label_log import Label
from tests.contract.segments import NOON, Log
from tests.fakes import FakeOutcomes
from tests.serving.conftest import make_contract

MODEL = "flight_delay"
CONTRACT = make_contract("binary")


class Harness(Protocol):
    """Outcomes, and how to have some become known."""

    outcomes: Outcomes

    def know(self, version: int, loss: float, at: float, count: int) -> None: ...


class Fake:
    def __init__(self) -> None:
        self.outcomes = FakeOutcomes()

    def know(self, version: int, loss: float, at: float, count: int) -> None:
        self.outcomes.know(MODEL, version, loss, at, count)


class Local:
    def __init__(self, folder: Path) -> None:
        self.outcomes = LabelledLog(str(folder), patience_s=60.0)
        self._log = Log(folder)

    def know(self, version: int, loss: float, at: float, count: int) -> None:
        ids = self._log.predict(*[loss**0.5] * count, version=version, at=at)
        self._log.label(*(Label(0.0, one) for one in ids))


@pytest.fixture(params=["fake", "local"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    return Fake() if request.param == "fake" else Local(tmp_path)


def test_nothing_is_known_of_what_nobody_labelled(harness: Harness) -> None:
    assert harness.outcomes.losses(MODEL, CONTRACT, (3, 4), NOON) == {}


def test_losses_are_told_by_version_since_a_moment_and_of_one_model(harness: Harness) -> None:
    harness.know(3, 0.25, NOON, 4)
    harness.know(3, 1.0, NOON - 1, 8)
    harness.know(4, 1.0, NOON + 60, 1)
    harness.know(5, 1.0, NOON, 1)
    assert harness.outcomes.losses(MODEL, CONTRACT, (3, 4, 6), NOON) == {3: Tally(1.0, 4), 4: Tally(1.0, 1)}
    assert harness.outcomes.losses("flight", CONTRACT, (3, 4), NOON) == {}
    assert harness.outcomes.losses(MODEL, CONTRACT, (3, 4), NOON + 61) == {}
