"""A driver while people steer: pause, resume, abort, promote, approve and roll back, by writes of their own."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from headrace.domain import rollout as rollouts
from headrace.domain.rollout import RolloutState
from headrace.domain.split import Split
from headrace.errors import Conflict
from headrace.ports import Platform
from headrace.steps.deploy import roll_out
from tests.unit.rollout_ends import BAD, finishes, taken_back
from tests.unit.rollout_parts import MODEL
from tests.unit.rollout_world import BY_HAND, POLICY, World, check_end

APPROVAL = replace(POLICY, approval=True, approval_timeout_s=100.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    assert world.deploy(world.register()).finished
    return world


def pause(state: RolloutState, world: World) -> RolloutState:
    return rollouts.paused(state, world.clock.wall(), "ann")


def resume(state: RolloutState, world: World) -> RolloutState:
    return rollouts.resumed(state, world.clock.wall(), "ann")


def abort(state: RolloutState) -> RolloutState:
    return rollouts.ended(state, "taken back", "aborted by ann")


def steered(world: World, at: float, to: Callable[[RolloutState], RolloutState]) -> None:
    world.events.append((at, lambda: world.steer(to)))


@pytest.mark.parametrize("at", [1.0, 3.0, 7.0])
def test_paused_holds_until_it_is_resumed(world: World, at: float):
    steered(world, at, partial(pause, world=world))
    steered(world, at + 70.0, partial(resume, world=world))
    finishes(world)
    assert 78.0 <= world.now <= 82.0
    held = [look.action for look in world.looks if at <= look.at - world.looks[0].at < at + 70]
    assert all("paused by ann" in action.reason for action in held if min(action.requests) >= 50)
    assert {action.kind for action in held} == {"hold"}


def test_paused_and_bad_goes_back(world: World):
    steered(world, 3.0, partial(pause, world=world))
    world.events.append((20.0, lambda: world.behaviour.update({2: BAD["errors"]})))
    taken_back(world, "errors")


def test_paused_and_never_resumed_goes_back(world: World):
    steered(world, 3.0, partial(pause, world=world))
    taken_back(world, "paused by ann (after 100 s", replace(POLICY, approval_timeout_s=100.0))


@pytest.mark.parametrize("at", [1.0, 3.0, 7.0])
def test_aborted_by_somebody_ends_and_says_by_whom(world: World, at: float):
    steered(world, at, abort)
    taken_back(world, "aborted by ann")
    assert world.now == at


def test_aborted_stays_the_reason_when_another_version_begins_right_after(world: World):
    second, third = world.register(), world.register()
    steered(world, 3.0, abort)
    world.events.append((3.0, lambda: world.deploy(third)))
    assert not world.deploy(second).finished
    assert world.registry.rollout(MODEL, 2) == "taken back: aborted by ann"
    check_end(world)


@pytest.mark.parametrize("at", [1.0, 3.0, 7.0])
def test_promoted_by_somebody_finishes_at_once(world: World, at: float):
    steered(world, at, lambda state: rollouts.approved(state, "ann"))
    done = world.deploy(world.register())
    assert (done.finished, done.reason) == (True, "promoted by ann")
    assert world.now == at
    assert world.champions == [1, 2]
    check_end(world)


@pytest.mark.parametrize("at", [1.0, 3.0, 7.0])
def test_rolled_back_by_somebody_ends(world: World, at: float):
    world.events.append((at, world.roll_back))
    version = world.register()
    done = world.deploy(version)
    assert (done.finished, done.reason) == (False, BY_HAND)
    assert world.registry.rollout(MODEL, 2) == f"taken back: {BY_HAND}"
    assert world.route.split == Split(1)
    assert world.running == {1}


def test_between_a_look_and_its_write_somebody_elses_word_holds(world: World):
    def interfere(*_: object) -> None:
        world.steer(abort)

    world.events.append((5.0, lambda: world.before.update({"router.write": interfere})))
    taken_back(world, "aborted by ann")


def test_a_route_that_is_taken_away_ends_the_driver(world: World):
    world.events.append((3.0, world.router._routes.clear))
    with pytest.raises(Conflict, match="is gone"):
        world.deploy(world.register())


def test_everything_waits_for_an_approval(world: World):
    steered(world, 50.0, lambda state: rollouts.approved(state, "ann"))
    done = world.deploy(world.register(), APPROVAL)
    assert (done.finished, done.reason) == (True, "promoted by ann")
    assert world.now == 50.0
    assert world.splits[-2:] == [Split(1, canary=2, canary_pct=50), Split(2, previous=1)]
    assert world.route.rollout is not None
    assert world.route.rollout.approved_by == "ann"
    check_end(world)


def test_nobody_approves_and_it_goes_back(world: World):
    taken_back(world, "it waits for approval (after 100 s", APPROVAL)
    assert 108.0 <= world.now <= 110.0


def test_a_version_that_turns_bad_while_it_waits_goes_back(world: World):
    world.events.append((50.0, lambda: world.behaviour.update({2: BAD["errors"]})))
    taken_back(world, "errors", APPROVAL)
    assert world.now <= 50.0 + 4 * POLICY.interval_s


def test_a_stable_version_that_starts_anew_while_it_waits_does_not_promote(world: World):
    world.events.append((50.0, lambda: world.serve(1)))
    taken_back(world, "it waits for approval (after 100 s", APPROVAL)


def test_begin_gives_up_when_the_route_changes_again_and_again(world: World):
    class Restless:
        """Somebody writes between every read and write."""

        def __init__(self, platform: Platform) -> None:
            self._router = platform.router

        def __getattr__(self, name: str) -> object:
            return getattr(self._router, name)

        def write(self, *_: object) -> object:
            raise Conflict("somebody wrote since")

    platform = replace(world.platform, router=Restless(world.platform))  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="again and again"):
        roll_out(platform, world.register(), POLICY, world.clock)
    assert world.running == {1}
