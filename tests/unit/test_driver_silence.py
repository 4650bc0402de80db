"""A driver whose metrics source, proxy or journal is silent: it holds, tries again, and promotes nobody for it."""

from dataclasses import replace
from pathlib import Path

import pytest

from headrace.domain.split import Split
from headrace.errors import Unavailable
from tests.unit.rollout_ends import BAD, SILENT, STEPS, advances, taken_back
from tests.unit.rollout_parts import MODEL, Behaviour
from tests.unit.rollout_world import POLICY, World, check_end


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    assert world.deploy(world.register()).finished
    return world


def test_a_version_that_gives_no_counters_goes_back_at_the_deadline(world: World):
    version = world.register(Behaviour(counted=False))
    done = world.deploy(version)
    assert not done.finished
    assert done.reason.startswith("no counters of v2 (after 60 s")
    assert advances(world) == []
    check_end(world)


def test_a_metrics_source_that_is_down_goes_back_at_the_deadline(world: World):
    world.failing["metrics.counts"] = SILENT
    taken_back(world, "no counters of v2 and no counters of the stable version (after 60 s")


@pytest.mark.parametrize("call", ["metrics.counts", "metrics.recent", "deployer.running"])
def test_silence_for_a_while_holds_and_the_rollout_goes_on(world: World, call: str):
    version = world.register()
    world.events += [(1.0, lambda: world.failing.update({call: SILENT})), (30.0, world.failing.clear)]
    assert world.deploy(version).finished
    assert advances(world) == STEPS
    assert world.now >= 36.0
    check_end(world)


@pytest.mark.parametrize("name", ["scores", "disagreement"])
def test_a_metrics_source_that_is_down_at_the_beginning_hides_nothing(world: World, name: str):
    world.failing["metrics.counts"] = SILENT
    world.events.append((5.0, world.failing.clear))
    # In a shadow, disagreement is seen first.
    policy = POLICY if name == "disagreement" else replace(POLICY, steps=POLICY.steps[1:])
    done = world.deploy(world.register(BAD[name]), policy)
    assert not done.finished
    assert done.reason.startswith(name)
    check_end(world)


def test_taking_back_is_tried_again_while_the_proxy_is_silent(world: World):
    def break_both() -> None:
        world.behaviour[2] = BAD["errors"]
        world.failing["router.write"] = SILENT

    world.events += [(5.0, break_both), (30.0, world.failing.clear)]
    taken_back(world, "errors")
    assert 30.0 <= world.now <= 31.0


def test_a_driver_that_can_not_take_back_says_so_and_the_next_one_does(world: World):
    def break_both() -> None:
        world.behaviour[2] = BAD["errors"]
        world.failing["router.write"] = SILENT

    version = world.register()
    world.events.append((5.0, break_both))
    with pytest.raises(Unavailable, match="does not answer"):
        world.deploy(version)
    assert 60.0 <= world.now <= 70.0
    assert world.route.rollout is not None
    assert world.route.rollout.active
    world.failing.clear()
    assert not world.deploy(version).finished
    assert (world.registry.rollout(MODEL, 2) or "").startswith("taken back: errors")
    check_end(world)


def test_what_can_not_be_written_is_decided_anew_when_the_version_turns_bad_meanwhile(world: World):
    version = world.register()
    world.events += [
        (1.0, lambda: world.failing.update({"router.write": SILENT})),
        (10.0, lambda: world.behaviour.update({2: BAD["errors"]})),
        (20.0, world.failing.clear),
    ]
    done = world.deploy(version)
    assert not done.finished
    assert done.reason.startswith("errors")
    assert world.splits[1:] == [Split(1, shadow=2, shadow_pct=100), Split(1)]


def test_an_advance_that_can_never_be_written_ends_the_driver(world: World):
    version = world.register()
    world.events.append((1.0, lambda: world.failing.update({"router.write": SILENT})))
    with pytest.raises(Unavailable, match="does not answer"):
        world.deploy(version)
    assert 60.0 <= world.now <= 70.0


def test_silences_far_apart_do_not_add_up(world: World):
    for begins, ends in ((1.0, 40.0), (41.0, 80.0)):
        world.events += [
            (begins, lambda: world.failing.update({"router.write": SILENT})),
            (ends, world.failing.clear),
        ]
    assert world.deploy(world.register()).finished
    assert list(dict.fromkeys(advances(world))) == STEPS
    assert world.now > 80.0
    check_end(world)


def test_what_was_decided_against_a_version_stands_while_the_proxy_is_silent(world: World):
    def break_both() -> None:
        world.behaviour[2] = BAD["errors"]
        world.failing["router.write"] = SILENT

    # At 7.0 an interval of errors was seen; all that follow are without, and in the end there are few in all.
    world.events += [
        (6.0, break_both),
        (7.0, lambda: world.behaviour.update({2: Behaviour()})),
        (50.0, world.failing.clear),
    ]
    taken_back(world, "errors")


def test_writes_that_are_made_and_not_confirmed_are_not_made_twice(world: World):
    version = world.register()
    world.events.append((0.5, lambda: world.failing.update({"after router.write": SILENT})))
    assert world.deploy(version).finished
    assert [split.canary_pct for split in world.splits[1:]] == [0, 1, 10, 50, 0]
    assert world.champions == [1, 2]
    check_end(world)


@pytest.mark.parametrize("call", ["router.drifted", "journal.append"])
def test_what_is_only_told_does_not_stop_a_rollout(world: World, call: str):
    world.failing[call] = SILENT
    assert world.deploy(world.register()).finished
    check_end(world)


def test_a_full_disk_does_not_keep_a_bad_version_in_service(world: World):
    world.failing["journal.append"] = OSError(28, "No space left on device")
    assert not world.deploy(world.register(BAD["errors"])).finished
    check_end(world)
