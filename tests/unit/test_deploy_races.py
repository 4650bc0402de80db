"""Several versions, several drivers of one, and people, all at once: who is left, and what is recorded."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from headrace.domain.split import Split
from headrace.errors import Conflict, Unavailable
from headrace.steps.handover import Rollout
from headrace.steps.settling import settle
from tests.unit.rollout_ends import HALF, ONE, SHADOW, TEN, begin
from tests.unit.rollout_parts import MODEL, Behaviour
from tests.unit.rollout_world import BY_HAND, POLICY, World, check_end

BAD = Behaviour(errors=0.5)


def test_a_newer_version_takes_the_place_of_an_unfinished_one(serving: World):
    begin(serving, serving.register())
    assert serving.deploy(serving.register()).finished
    assert serving.route.split == Split(3, previous=1)
    check_end(serving)


def test_a_newer_version_that_is_taken_back_leaves_nothing_of_the_one_whose_place_it_took(serving: World):
    begin(serving, serving.register())
    assert not serving.deploy(serving.register(BAD)).finished
    check_end(serving)
    assert serving.running == {1}


@pytest.mark.parametrize("behaviour", [Behaviour(), BAD])
def test_the_driver_of_the_older_version_ends_and_says_why(serving: World, behaviour: Behaviour):
    second, third = serving.register(), serving.register(behaviour)
    later: list[Rollout] = []
    serving.events.append((3.0, lambda: later.append(serving.deploy(third))))
    done = serving.deploy(second)
    assert later[0].finished == (behaviour != BAD)
    assert (done.finished, done.reason) == (False, "v3 took its place")
    assert serving.registry.rollout(MODEL, 2) == "taken back: v3 took its place"
    assert 2 not in serving.running
    check_end(serving)


def test_a_newer_version_goes_on_when_the_older_ones_driver_has_ended(serving: World):
    second, third = serving.register(), serving.register()
    serving.events.append((3.0, lambda: begin(serving, third)))
    assert not serving.deploy(second).finished
    assert serving.running == {1, 3}
    assert serving.deploy(third).finished
    assert serving.champions == [1, 3]
    check_end(serving)


def test_an_older_version_does_not_take_the_place_of_a_newer_one_that_is_tried(serving: World):
    second, third = serving.register(), serving.register()
    begin(serving, third)
    with pytest.raises(Conflict, match="v3 of flight_delay is being tried, and is newer than v2"):
        serving.deploy(second)
    assert serving.running == {1, 3}
    assert serving.route.split.shadow == 3


def test_an_older_version_that_starts_while_a_newer_one_begins_is_stopped_again(serving: World):
    second, third = serving.register(), serving.register()
    serving.before["deployer.start"] = lambda: begin(serving, third)
    with pytest.raises(Conflict, match="is newer than v2"):
        serving.deploy(second)
    assert serving.running == {1, 3}


@pytest.mark.parametrize("call", ["router.read", "deployer.start"])
def test_an_older_version_does_not_take_the_place_of_a_newer_one_that_has_all_traffic(serving: World, call: str):
    second, third = serving.register(), serving.register()
    serving.before[call] = lambda: serving.deploy(third)
    done = serving.deploy(second)
    assert not done.finished
    assert done.reason == "v3 answers all requests, which is newer"
    assert serving.route.split == Split(3, previous=1)
    assert serving.registry.rollout(MODEL, 2) == f"taken back: {done.reason}"
    check_end(serving)


def test_a_version_that_was_followed_by_a_newer_one_stays_recorded_as_finished(serving: World):
    second = serving.register()
    serving.failing["registry.set_alias"] = Unavailable("MLflow does not answer")
    with pytest.raises(Unavailable):
        serving.deploy(second)
    serving.failing.clear()
    assert serving.deploy(serving.register()).finished
    assert not serving.deploy(second).finished
    assert serving.registry.rollout(MODEL, 2) == "finished"
    check_end(serving)


def test_a_version_older_than_the_way_back_is_stopped(serving: World):
    for _ in range(2):
        serving.deploy(serving.register())
    assert serving.running == {2, 3}


def test_a_driver_that_settles_late_does_not_undo_a_rollback(serving: World):
    serving.before["registry.alias"] = serving.roll_back
    done = serving.deploy(serving.register())
    assert not done.finished or serving.route.split.stable == 1
    assert serving.route.split == Split(1, previous=2)
    assert serving.registry.alias(MODEL, "champion") == 1
    assert serving.running == {1, 2}


def test_a_rollback_before_the_driver_settles_is_told_as_what_it_was(serving: World):
    def once_finished() -> None:
        if serving.route.split.stable == 2:
            serving.roll_back()
        else:
            serving.before["router.read"] = once_finished

    serving.before["router.read"] = once_finished
    done = serving.deploy(serving.register())
    assert (done.finished, done.reason) == (False, f"v1 answers all requests, since {BY_HAND}")
    assert serving.registry.rollout(MODEL, 2) == "finished"
    assert serving.registry.alias(MODEL, "champion") == 1


def test_what_the_router_holds_now_counts_and_not_what_it_held_when_the_rollout_ended(serving: World):
    version = serving.register()
    serving.deploy(version)
    then = serving.route
    serving.roll_back()
    assert not settle(serving.platform, version, then, then.rollout).finished
    check_end(serving)


def test_an_older_first_version_that_a_faster_newer_one_stopped_says_so(world: World):
    first, second = world.register(), world.register()

    def faster() -> None:
        world.deploy(second)
        assert world.running == {2}

    world.events.append((0.0, faster))
    world.before["deployer.running"] = lambda: world.sleep(0.0)
    done = world.deploy(first)
    assert (done.finished, done.reason) == (False, "v2 answers all requests, which is newer")
    check_end(world)


def test_a_driver_that_settles_late_does_not_stop_what_was_rolled_back_to(serving: World):
    serving.deploy(serving.register())
    third = serving.register()

    def back_to_the_first() -> None:
        route = serving.route
        serving.router.write(MODEL, Split(1, previous=3), route.generation, BY_HAND, route.rollout)

    # The rollout of v3 has finished, and v1 is nobody's way back: its driver is about to stop it.
    serving.before["registry.record_rollout"] = back_to_the_first
    serving.deploy(third)
    assert 1 in serving.running


def test_two_drivers_of_a_rollout_are_harmless(serving: World):
    version = serving.register()
    others: list[Rollout] = []
    serving.events.append((3.0, lambda: others.append(serving.deploy(version))))
    assert serving.deploy(version).finished
    assert others[0].finished
    assert serving.splits[1:] == [SHADOW, ONE, TEN, HALF, Split(2, previous=1)]
    assert serving.champions == [1, 2]
    check_end(serving)


def test_a_second_driver_that_comes_when_the_first_has_just_finished_has_nothing_to_do(serving: World):
    version = serving.register()
    serving.before["deployer.start"] = lambda: serving.deploy(version)
    assert serving.deploy(version).finished
    assert serving.champions == [1, 2]
    check_end(serving)


def test_many_drivers_of_a_rollout_at_once_finish_it_once(serving: World):
    version = serving.register()
    done = at_once(4, lambda n: serving.deploy(version))
    assert [one.finished for one in done if isinstance(one, Rollout)] == [True] * 4
    assert serving.moves == [1, 2]
    check_end(serving)


def test_many_drivers_of_a_bad_version_take_it_back_once(serving: World):
    version = serving.register(BAD)
    begin(serving, version)
    done = at_once(4, lambda n: serving.deploy(version))
    reasons = {one.reason for one in done if isinstance(one, Rollout)}
    assert all(reason.startswith("errors") for reason in reasons)
    check_end(serving)


@pytest.mark.parametrize("served", [0, 1])
def test_of_twenty_versions_deployed_at_once_the_newest_is_left(world: World, served: int):
    for _ in range(served):
        assert world.deploy(world.register()).finished
    policy = replace(POLICY, steps=tuple(replace(step, timeout_s=1e9) for step in POLICY.steps))
    versions = [world.register() for _ in range(20)]
    done = at_once(20, lambda n: world.deploy(versions[n], policy))
    newest = versions[-1].version
    assert world.route.split.stable == newest
    check_end(world)
    stables = [split.stable for split in world.splits]
    assert stables == sorted(stables), "no older version ever took a newer one's place"
    for version, one in zip(versions, done, strict=True):
        recorded = world.registry.rollout(MODEL, version.version)
        if isinstance(one, Conflict):
            assert "is newer than" in str(one)
        elif one.finished:
            assert recorded == "finished"
        else:
            assert recorded in ("finished", f"taken back: {one.reason}")
            assert "newer" in one.reason or "took its place" in one.reason


def at_once(count: int, deploy: Callable[[int], Rollout]) -> list[Rollout | Conflict]:
    """What each of so many threads gave; they begin together."""
    barrier, done = threading.Barrier(count), dict[int, Rollout | Conflict]()

    def run(n: int) -> None:
        barrier.wait()
        try:
            done[n] = deploy(n)
        except Conflict as told:
            done[n] = told

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [done[n] for n in range(count)]
