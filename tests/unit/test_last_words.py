"""Why a step failed, where a runner that sees no events finds it."""

import errno
from pathlib import Path

import pytest

from headrace import running
from headrace.documents import read_json
from headrace.domain.request import TrainingRequest
from headrace.errors import DataError, Unavailable
from headrace.ports import PIPELINE_RUN
from headrace.steps.last_words import left_with
from tests.fakes import FakeModelRegistry

GIVEN = {"request": TrainingRequest("m"), "pipeline_run": "p1"}


@pytest.fixture
def registry(tmp_path: Path) -> FakeModelRegistry:
    return FakeModelRegistry(tmp_path)


def word(tmp_path: Path) -> running.Failure:
    return read_json(running.Failure, tmp_path / "run1" / "failure" / running.FAILURE)


def test_an_error_is_left_with_its_class_and_raised(registry: FakeModelRegistry, tmp_path: Path):
    with pytest.raises(DataError), left_with(registry, "prepare", GIVEN):
        raise DataError("column 'x' is missing")
    assert word(tmp_path) == running.Failure("prepare", "DataError", "column 'x' is missing")
    (run,) = registry.runs.values()
    assert (run.model, run.tags, run.status) == ("m", {PIPELINE_RUN: "p1"}, "failed")


@pytest.mark.parametrize(
    ("raised", "kind"),
    [(OSError(errno.ENOSPC, "No space left on device", "/x"), "Unavailable"), (KeyError("a"), "HeadraceError")],
)
def test_what_is_not_ours_is_told_as_the_step_tells_it(
    registry: FakeModelRegistry, tmp_path: Path, raised: Exception, kind: str
):
    with pytest.raises(type(raised)), left_with(registry, "prepare", GIVEN):
        raise raised
    assert word(tmp_path).error == kind


def test_a_step_that_succeeds_leaves_nothing(registry: FakeModelRegistry):
    with left_with(registry, "prepare", GIVEN):
        pass
    assert registry.runs == {}


class Away(FakeModelRegistry):
    """Does not answer."""

    def start_run(self, *_: object) -> str:
        raise Unavailable("MLflow does not answer")


def test_a_registry_that_is_away_does_not_hide_the_steps_error(tmp_path: Path):
    with pytest.raises(DataError, match="'x'"), left_with(Away(tmp_path), "prepare", GIVEN):
        raise DataError("column 'x' is missing")


def test_a_plan_that_cannot_be_read_does_not_hide_the_steps_error(registry: FakeModelRegistry, tmp_path: Path):
    with pytest.raises(DataError, match="'x'"), left_with(registry, "train", {"plan_in": tmp_path}):
        raise DataError("column 'x' is missing")
