"""One driver, and labels that come late, few or not at all."""

from functools import partial
from pathlib import Path

import pytest

from headrace.errors import Unavailable
from tests.unit.rollout_ends import STEPS, advances, finishes, taken_back
from tests.unit.rollout_parts import MODEL
from tests.unit.rollout_world import NOON, POLICY, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    assert world.deploy(world.register()).finished
    return world


def labels_come(world: World, losses: dict[int, float], share: float = 1.0) -> None:
    """Of what both versions answered so far; their scores say nothing."""
    for version, loss in losses.items():
        world.outcomes.know(MODEL, version, loss, NOON + world.now, round(share * world.answered[version]))


def test_a_version_whose_scores_look_alike_but_are_wrong_goes_back_once_labels_tell(world: World):
    world.events.append((7.0, lambda: labels_come(world, {1: 0.1, 2: 0.4})))
    taken_back(world, "loss: 40.00 % beside 10.00 %; at least ")
    assert advances(world) == STEPS[:3]
    assert world.now <= 7.0 + POLICY.interval_s


def test_labels_that_come_for_the_first_share_only_take_it_back_in_a_later_step(world: World):
    # At 1 %; the labels come at 50 %, when other windows of evidence are long over.
    answered: dict[int, int] = {}
    world.events.append((4.0, lambda: answered.update(world.answered)))
    for version, loss in ((1, 0.1), (2, 0.9)):
        world.events.append((7.0, partial(know_first, world, answered, version, loss)))
    taken_back(world, "loss: 90.00 % beside 10.00 %")
    assert advances(world) == STEPS[:3]


def know_first(world: World, answered: dict[int, int], version: int, loss: float) -> None:
    assert answered[2] > 20
    world.outcomes.know(MODEL, version, loss, NOON + 4.0, answered[version])


def test_labels_that_say_nothing_against_a_version_take_nothing_from_it(world: World):
    world.events += [(float(n), lambda: labels_come(world, {1: 0.1, 2: 0.11}, 0.1)) for n in range(1, 100)]
    finishes(world)
    assert any(one.metric == "loss" and one.outcome == "pass" for one in world.looks[-1].action.findings)


def test_a_few_bad_labels_hold_nothing(world: World):
    world.events.append((3.0, lambda: world.outcomes.know(MODEL, 1, 0.0, NOON + 3.0, 3)))
    world.events.append((3.0, lambda: world.outcomes.know(MODEL, 2, 1.0, NOON + 3.0, 3)))
    began = world.now
    finishes(world)
    assert world.now <= began + 12.0


def test_a_log_that_can_not_be_read_holds_nothing_and_hides_nothing_that_was_seen(world: World):
    world.failing["outcomes.losses"] = Unavailable("the bucket does not answer")
    finishes(world)


def test_a_loss_that_was_seen_is_not_forgotten_when_the_log_can_not_be_read_any_more(world: World):
    def fall_silent() -> None:
        world.failing["outcomes.losses"] = Unavailable("the bucket does not answer")

    # More than is allowed, and not quite proven: the step is held, and the log goes away.
    world.outcomes.know(MODEL, 1, 0.1, NOON, 1000)
    world.outcomes.know(MODEL, 2, 0.17, NOON, 1000)
    world.events.append((3.0, fall_silent))
    taken_back(world, "loss: 17.00 % beside 10.00 %; beyond the 2.00 points allowed, but that may still be chance")
    assert advances(world) == []
