"""One driver with a good version and with bad ones: when it advances, and when and why it takes back."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.rollout_ends import BAD, STEPS, advances, finishes, taken_back
from tests.unit.rollout_parts import MODEL, Behaviour, Killed
from tests.unit.rollout_world import POLICY, World, check_end

NO_SHADOW = replace(POLICY, steps=POLICY.steps[1:])


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    assert world.deploy(world.register()).finished
    return world


@pytest.mark.parametrize(("per_s", "probes"), [(2000, True), (2000, False), (0, True)])
def test_a_good_version_advances_on_traffic_of_clients_or_on_probes(world: World, per_s: int, probes: bool):
    world.per_s = per_s
    began = world.now
    finishes(world, replace(POLICY, probes=probes))
    moved = [look for look in world.looks if look.action.kind == "advance"]
    for look, before in zip(moved, [world.looks[0], *moved], strict=False):
        assert min(look.action.requests) >= 50
        assert look.at - before.at >= 2.0
    assert [look.new_pct for look in moved] == [0, 1, 10, 50]
    assert began + 8.0 <= world.now <= began + 12.0


def test_nothing_is_probed_where_clients_send_enough(world: World):
    sent, world.per_s = len(world.prober.sent), 6000
    finishes(world)
    assert len(world.prober.sent) == sent


@pytest.mark.parametrize("name", BAD)
def test_a_bad_version_is_found_out_as_a_shadow_and_answers_nobody(world: World, name: str):
    world.register()
    world.behaviour[2] = BAD[name]
    done = world.deploy(world.registry.version(MODEL, 2))
    assert not done.finished
    assert done.reason.startswith(name)
    assert world.answered[2] == 0
    assert {split.canary for split in world.splits} == {None}
    assert world.now <= 2.0, "at the first look at which there is evidence"
    check_end(world)


@pytest.mark.parametrize("name", [name for name in BAD if name != "disagreement"])
def test_without_a_shadow_a_bad_version_never_gets_more_than_the_first_share(world: World, name: str):
    done = world.deploy(world.register(BAD[name]), NO_SHADOW)
    assert not done.finished
    assert done.reason.startswith(name)
    assert max(split.canary_pct for split in world.splits) == 1
    assert 0 < world.answered[2] <= world.answered.total() / 100
    check_end(world)


@pytest.mark.parametrize("name", ["errors", "slow answers"])
def test_a_version_that_turns_bad_on_its_way_is_taken_back_within_an_interval(world: World, name: str):
    world.events.append((7.0, lambda: world.behaviour.update({2: BAD[name]})))
    taken_back(world, name)
    assert advances(world) == STEPS[:3]
    assert world.now <= 7.0 + 2 * POLICY.interval_s


def test_bad_version_is_found_out_by_probes_alone(world: World):
    world.per_s = 0
    world.events.append((0.0, lambda: world.behaviour.update({2: Behaviour(errors=1.0)})))
    taken_back(world, "errors")
    assert advances(world) == []


def test_without_traffic_and_probes_nothing_passes_and_it_goes_back_at_the_deadline(world: World):
    world.per_s = 0
    taken_back(world, "0 answers beside 0", replace(POLICY, probes=False))
    assert advances(world) == []
    assert 60.0 <= world.now <= 61.0


@pytest.mark.parametrize("at", [1.0, 3.0, 7.0])
def test_a_canary_that_was_started_anew_goes_back(world: World, at: float):
    world.events.append((at, lambda: world.serve(2)))
    taken_back(world, "v2 was started anew")


@pytest.mark.parametrize("at", [1.0, 3.0, 7.0])
def test_a_stable_version_that_was_started_anew_makes_the_evidence_void(world: World, at: float):
    world.events.append((at, lambda: world.serve(1)))
    finishes(world)
    assert [look.action.kind for look in world.looks].count("renew") == 1
    assert world.route.rollout is not None
    assert world.route.rollout.window == 4


def test_when_both_were_started_anew_the_evidence_is_void(world: World):
    world.events.append((3.0, lambda: (world.serve(1), world.serve(2))))  # type: ignore[func-returns-value]
    finishes(world)


@pytest.mark.parametrize(("number", "reason"), [(2, "v2 was started anew"), (1, None)])
def test_a_counter_that_goes_back_is_taken_for_a_new_process(world: World, number: int, reason: str | None):
    world.events.append((3.0, lambda: world.metrics.answer(MODEL, number, -10_000)))
    if reason:
        taken_back(world, reason)
    else:
        finishes(world)


def test_a_stable_version_that_starts_anew_again_and_again_promotes_nobody(world: World):
    world.events += [(float(n), lambda: world.serve(1)) for n in range(1, 100)]
    taken_back(world, "the evidence is void (after 60 s", replace(POLICY, probes=False))


def test_a_version_that_is_no_longer_ready_goes_back(world: World):
    def fall_ill() -> None:
        (world.platform.model_directory(world.registry.version(MODEL, 2)) / "not_ready").touch()

    world.events.append((5.0, fall_ill))
    taken_back(world, "v2 is no longer ready")
    assert world.now == 5.0


def test_a_version_that_somebody_stopped_goes_back(world: World):
    world.events.append((5.0, lambda: world.deployer.stop(MODEL, 2)))
    taken_back(world, "v2 is no longer ready")


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
@pytest.mark.parametrize("at", [1.0, 3.0, 7.0])
def test_a_clock_that_jumps_changes_nothing(world: World, at: float, jump_s: float):
    def jump() -> None:
        world.wall_offset += jump_s

    world.events.append((at, jump))
    finishes(world)
    assert 8.0 <= world.now <= 9.0, "each step was held for its time, and no longer"


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_clock_that_jumps_between_two_drivers_promotes_nobody_early(world: World, jump_s: float):
    version = world.register()
    world.kill = lambda call: world.now >= 3.0
    with pytest.raises(Killed):
        world.deploy(version)
    world.kill = lambda call: False
    world.wall_offset += jump_s
    world.sleep(1.0)
    done = world.deploy(version)
    # As far as anybody can tell, the step has had an hour.
    assert done.finished == (jump_s < 0)
    assert done.finished or "50 of each are needed (after 60 s" in done.reason
    moved = [look.action.requests for look in world.looks if look.action.kind == "advance"]
    assert all(min(requests) >= 50 for requests in moved)
    check_end(world)


@pytest.mark.parametrize("jump_s", [0.0, -3600.0])
def test_no_traffic_and_ever_new_drivers_ends_at_the_deadline(world: World, jump_s: float):
    """Each driver looks once and is killed: time that it did not see is time all the same."""
    world.per_s = 0
    version, policy = world.register(), replace(POLICY, probes=False)
    for n in range(100):
        until = world.now + 1.0
        world.kill = lambda call, until=until: world.now >= until  # type: ignore[misc]
        try:
            done = world.deploy(version, policy)
        except Killed:
            if n == 0:
                world.wall_offset += jump_s
            continue
        assert not done.finished
        return
    assert jump_s < 0, "a clock that went back an hour makes it an hour longer, and no more"


@pytest.mark.parametrize("at", [1.0, 5.0])
def test_a_weight_changed_by_hand_is_put_right_and_the_rollout_goes_on(
    world: World, at: float, capsys: pytest.CaptureFixture[str]
):
    world.events.append((at, lambda: world.router.drift.update({MODEL: "the file says v2 100 %"})))
    finishes(world)
    assert world.router.drift == {}
    assert "put right: the file says v2 100 %" in [route.note for route in world.router.history]
    assert "put right: the file says v2 100 %" in capsys.readouterr().err
