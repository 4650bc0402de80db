"""A rollout through the ports: who gets traffic when, who is champion, and what is left when it goes wrong."""

import json

import pytest

from headrace.domain.split import Split
from headrace.errors import Unavailable
from tests.unit.rollout_ends import HALF, ONE, SHADOW, TEN, begin
from tests.unit.rollout_parts import MODEL, Behaviour
from tests.unit.rollout_world import World, check_end

BAD = Behaviour(errors=0.5)


def test_the_first_version_gets_all_traffic_once_it_answers(world: World):
    done = world.deploy(world.register())
    assert done.finished
    assert world.splits == [Split(1)]
    assert world.champions == [1]
    assert world.registry.rollout(MODEL, 1) == "finished"


def test_a_first_version_that_answers_with_errors_is_never_routed(world: World):
    done = world.deploy(world.register(Behaviour(errors=1.0)))
    assert not done.finished
    assert "50 of 50" in done.reason
    assert world.splits == []
    assert world.champions == []
    assert world.running == set()
    assert world.registry.rollout(MODEL, 1) == f"taken back: {done.reason}"


def test_a_good_version_climbs_the_steps_and_becomes_champion(serving: World):
    version = serving.register()
    serving.registry.set_alias(MODEL, "challenger", 2)
    assert serving.deploy(version).finished
    assert serving.splits[1:] == [SHADOW, ONE, TEN, HALF, Split(2, previous=1)]
    assert serving.champions == [1, 2]
    assert serving.registry.alias(MODEL, "challenger") is None
    assert serving.running == {1, 2}, "the old one stays for a rollback"
    check_end(serving)


def test_a_bad_version_is_stopped_and_recorded(serving: World):
    done = serving.deploy(serving.register(BAD))
    assert not done.finished
    assert serving.splits[1:] == [SHADOW, Split(1)]
    assert serving.champions == [1]
    assert serving.registry.rollout(MODEL, 2) == f"taken back: {done.reason}"
    assert serving.running == {1}


@pytest.mark.parametrize("behaviour", [Behaviour(), BAD])
def test_a_rollout_leaves_a_page_and_its_looks(serving: World, behaviour: Behaviour):
    serving.deploy(serving.register(behaviour))
    state = serving.route.rollout
    assert state is not None
    kept = serving.folder / "registry" / "e2" / "rollout"
    assert sorted(path.name for path in kept.iterdir()) == ["looks.json", "rollout.html"]
    assert len(json.loads((kept / "looks.json").read_text())) == len(serving.looks)
    assert "<html" in (kept / "rollout.html").read_text()
    folder = serving.folder / "home" / "rollouts" / MODEL
    assert [path.name for path in folder.iterdir()] == [state.key], "no half of a file is left"


def test_a_version_that_does_not_start_leaves_everything_as_it_was(serving: World):
    with pytest.raises(Unavailable, match="stopped while it started"):
        serving.deploy(serving.register(refuses="no such file"))
    assert serving.splits == [Split(1)]
    assert serving.running == {1}


def test_deploying_twice_changes_nothing(serving: World):
    version = serving.register()
    serving.deploy(version)
    before = serving.splits
    assert serving.deploy(version).finished
    assert serving.splits == before
    assert serving.champions == [1, 2]


def test_a_finished_version_is_deployed_again_while_a_newer_one_is_tried(serving: World):
    first = serving.registry.version(MODEL, 1)
    begin(serving, serving.register())
    assert serving.deploy(first).finished
    assert serving.route.split == SHADOW
    assert serving.running == {1, 2}


def test_a_rollout_that_was_cut_off_goes_on_where_it_was(serving: World):
    version = serving.register()
    begin(serving, version)
    assert serving.deploy(version).finished
    assert serving.splits[1:] == [SHADOW, ONE, TEN, HALF, Split(2, previous=1)]


def test_what_was_taken_back_and_not_recorded_is_recorded_and_not_tried_again(serving: World):
    version = serving.register(BAD)
    serving.failing["registry.record_rollout"] = Unavailable("MLflow does not answer")
    with pytest.raises(Unavailable, match=r"taken back \(errors: .* but it is not recorded"):
        serving.deploy(version)
    serving.failing.clear()
    before = serving.splits
    assert not serving.deploy(version).finished
    assert serving.splits == before
    assert (serving.registry.rollout(MODEL, 2) or "").startswith("taken back: errors")
    check_end(serving)


def test_what_finished_while_the_registry_was_down_is_made_champion_by_the_next_run(serving: World):
    version = serving.register()
    serving.failing["registry.set_alias"] = Unavailable("MLflow does not answer")
    with pytest.raises(Unavailable, match="v2 answers all requests, but it is not recorded"):
        serving.deploy(version)
    serving.failing.clear()
    assert serving.deploy(version).finished
    assert serving.champions == [1, 2]
    check_end(serving)


def test_champion_is_put_right_by_the_next_rollout_when_its_own_driver_never_came_back(serving: World):
    serving.failing["registry.set_alias"] = Unavailable("MLflow does not answer")
    with pytest.raises(Unavailable):
        serving.deploy(serving.register())
    serving.failing.clear()
    assert not serving.deploy(serving.register(BAD)).finished
    assert serving.champions == [1, 2]
    check_end(serving)


@pytest.mark.parametrize("behaviour", [BAD, Behaviour()])
def test_a_version_that_was_taken_back_by_evidence_or_by_hand_is_not_tried_again(serving: World, behaviour: Behaviour):
    version = serving.register(behaviour)
    if serving.deploy(version).finished:
        serving.roll_back()
    before, recorded, starts = serving.splits, serving.registry.rollout(MODEL, 2), serving.calls["deployer.start"]
    assert not serving.deploy(version).finished
    assert serving.splits == before
    assert serving.registry.rollout(MODEL, 2) == recorded
    assert serving.calls["deployer.start"] == starts
    check_end(serving)
