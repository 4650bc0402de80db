"""What a rollout sees of labels: those of the whole rollout, and what they told once stays told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.domain.evidence import Expected
from headrace.domain.rollout import RolloutState
from headrace.domain.sequences import Tally
from headrace.steps.watching import Watch
from tests.unit.rollout_parts import BUDGET_S, CONTRACT, MODEL
from tests.unit.rollout_world import NOON, World
from tests.unit.test_watching import CANARY, SHADOW, SILENT, expect, scored, state_of, told, two_versions, watch_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return two_versions(tmp_path)


def losses(world: World, watch: Watch, state: RolloutState) -> tuple[Tally, Tally] | None:
    return watch.look(CANARY, state).losses


def test_losses_are_those_since_the_rollout_began_in_all_its_steps(world: World):
    state, watch = state_of(world), watch_of(world)
    assert losses(world, watch, state) is None
    for version, at in ((1, NOON - 1), (1, NOON), (2, NOON + 5), (3, NOON)):
        world.outcomes.know(MODEL, version, 0.25, at, count=4)
    later = replace(state, step=1, step_at=NOON + 100.0, window=1)
    assert losses(world, watch, later) == (Tally(1, 4), Tally(1, 4))
    assert watch.look(SHADOW, state).losses == (Tally(1, 4), Tally(1, 4))


def test_what_labels_told_once_stays_told_while_they_can_not_be_read(world: World):
    state, watch = state_of(world), watch_of(world)
    world.failing["outcomes.losses"] = SILENT
    assert losses(world, watch, state) is None
    assert watch.look(CANARY, state).new is not None, "there is other evidence"
    del world.failing["outcomes.losses"]
    world.outcomes.know(MODEL, 2, 1.0, NOON)
    assert losses(world, watch, state) == (Tally(1, 1), Tally(0, 0))
    world.failing["outcomes.losses"] = SILENT
    assert losses(world, watch, state) == (Tally(1, 1), Tally(0, 0))


def test_labels_are_not_judged_without_the_contract_that_says_what_they_are(world: World):
    path = world.platform.model_directory(world.registry.version(MODEL, 2)) / "contract.json"
    contract, state = path.read_text(), state_of(world)
    path.unlink()
    assert losses(world, watch_of(world), state) is None
    path.write_text(contract)
    world.outcomes.know(MODEL, 1, 0.5, NOON)
    world.failing["registry.version"] = SILENT
    assert losses(world, watch_of(world), state) is not None, "which the registry is not asked for"


def test_errors_of_a_regression_are_measured_by_the_span_of_the_stable_versions_scores(world: World):
    regression = {**CONTRACT, "task": "regression", "metric": "mae"}
    (world.folder / "made-2" / "contract.json").write_text(json.dumps(regression))
    told(world, 2, regression)
    scored(world, {1: lambda n: 2.0 * n, 2: lambda n: 1000.0 * n})
    assert expect(world).span == 38.0
    scored(world, {1: lambda n: 7.0, 2: lambda n: 1000.0 * n})
    assert expect(world).span is None
    world.outcomes.know(MODEL, 1, 0.5, NOON)
    state = state_of(world)
    assert losses(world, watch_of(world), state) is None, "there is nothing to measure them by"
    assert losses(world, watch_of(world), replace(state, expected=Expected(BUDGET_S, span=38.0))) is not None
