"""Drivers that are killed before and after every call of every port, and at random: the next one comes to the same end.

What holds at every moment is `rollout_world.check`, which the world asks after each write.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from headrace.domain import rollout as rollouts
from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout_policy import RolloutPolicy
from headrace.domain.split import Split
from headrace.errors import Conflict
from headrace.steps.handover import Rollout
from tests.unit.rollout_parts import MODEL, Behaviour, Killed
from tests.unit.rollout_world import POLICY, World, check_end

# Few looks, so that there are few calls to be killed at.
QUICK = replace(
    POLICY, steps=tuple(replace(step, min_requests=20, hold_s=1.0) for step in (POLICY.steps[0], POLICY.steps[2]))
)
BAD = Behaviour(errors=0.5)
SHADOW, TEN, ALL = Split(1, shadow=2, shadow_pct=100), Split(1, canary=2, canary_pct=10), Split(2, previous=1)
Drive = Callable[[], Rollout]


@dataclass
class Killer:
    """Kills at the so manieth point: before or after a call. Of one row after the other, the first two count."""

    at: int
    points: int = 0
    rows: int = 0

    def __call__(self, call: str) -> bool:
        self.rows = self.rows + 1 if call.endswith("prober.send") else 0
        if self.rows > 4:
            return False
        self.points += 1
        return self.points == self.at

    @property
    def struck(self) -> bool:
        return self.points >= self.at


def until_done(world: World, drive: Drive) -> Rollout:
    """A new driver whenever one was killed; clients go on meanwhile."""
    while True:
        try:
            return drive()
        except Killed:
            world.sleep(0.25)


def everywhere(folder: Path, begun: Callable[[World], Drive], end: Callable[[World, Rollout], None]) -> int:
    """Kill the driver of a new world at every point, one world a point; the number of points that there are."""
    point = 1
    while True:
        world = World(folder / str(point))
        drive = begun(world)
        killer = Killer(point)
        world.kill = killer
        done = until_done(world, drive)
        check_end(world)
        end(world, done)
        if not killer.struck:
            return point - 1
        point += 1


def serving(world: World, behaviour: Behaviour | None = None, policy: RolloutPolicy = QUICK) -> Drive:
    world.deploy(world.register())
    return partial(world.deploy, world.register(behaviour), policy)


def finished(world: World, done: Rollout) -> None:
    assert done.finished
    assert list(dict.fromkeys(world.splits)) == [Split(1), SHADOW, TEN, ALL]
    assert world.champions == [1, 2]
    assert world.registry.rollout(MODEL, 2) == "finished"
    assert (world.folder / "registry" / "e2" / "rollout" / "rollout.html").exists()


def taken_back(world: World, done: Rollout) -> None:
    assert not done.finished
    assert done.reason.startswith("errors")
    assert set(world.splits) == {Split(1), SHADOW}
    assert world.answered[2] == 0
    assert world.champions == [1]
    assert (world.registry.rollout(MODEL, 2) or "").startswith("taken back: errors")


def test_a_good_version_finishes_wherever_its_driver_was_killed(tmp_path: Path):
    assert everywhere(tmp_path, serving, finished) > 50


def test_a_good_version_finishes_on_probes_wherever_its_driver_was_killed(tmp_path: Path):
    def quiet(world: World) -> Drive:
        world.per_s = 0
        return serving(world)

    assert everywhere(tmp_path, quiet, finished) > 100


def test_a_bad_version_goes_back_wherever_its_driver_was_killed(tmp_path: Path):
    assert everywhere(tmp_path, partial(serving, behaviour=BAD), taken_back) > 30


def test_a_version_that_turns_bad_goes_back_wherever_its_driver_was_killed(tmp_path: Path):
    def turning(world: World) -> Drive:
        # Long before it could have all traffic: after that it is no rollout's matter any more.
        slowly = replace(QUICK, steps=(QUICK.steps[0], replace(QUICK.steps[1], hold_s=4.0)))
        drive = serving(world, policy=slowly)
        world.events.append((world.now + 2.0, lambda: world.behaviour.update({2: BAD})))
        return drive

    def back(world: World, done: Rollout) -> None:
        assert not done.finished
        assert set(world.splits) == {Split(1), SHADOW, TEN}
        assert world.champions == [1]
        assert (world.registry.rollout(MODEL, 2) or "").startswith("taken back: errors")

    assert everywhere(tmp_path, turning, back) > 30


def test_a_first_version_serves_wherever_its_driver_was_killed(tmp_path: Path):
    def first(world: World) -> Drive:
        return partial(world.deploy, world.register(), QUICK)

    def serves(world: World, done: Rollout) -> None:
        assert done.finished
        assert world.splits == [Split(1)]
        assert world.champions == [1]
        assert world.registry.rollout(MODEL, 1) == "finished"

    assert everywhere(tmp_path, first, serves) > 10


def test_an_approval_is_not_lost_wherever_the_driver_was_killed(tmp_path: Path):
    def waiting(world: World) -> Drive:
        drive = serving(world, policy=replace(QUICK, approval=True))

        def approve() -> None:
            state = world.route.rollout
            if state is not None and state.phase == "waiting":
                world.steer(lambda state: rollouts.approved(state, "ann"))
            elif state is None or state.active:
                world.events.append((world.now + 1.0, approve))

        world.events.append((3.0, approve))
        return drive

    def approved(world: World, done: Rollout) -> None:
        finished(world, done)
        assert done.reason == "promoted by ann"

    # The person's command is killed as well, where it is its turn: then the driver settles what it wrote.
    assert everywhere(tmp_path, waiting, approved) > 50


def test_a_newer_version_takes_over_wherever_the_older_ones_driver_was_killed(tmp_path: Path):
    point = 1
    while True:
        world = World(tmp_path / str(point))
        drive = serving(world)
        third = world.register()
        world.kill = killer = Killer(point)
        try:
            drive()
        except Killed:
            world.kill = lambda call: False
            assert world.deploy(third, QUICK).finished
            check_end(world)
            assert world.route.split.stable == 3
            assert world.route.split.previous in (1, 2)
            assert world.moves[-1] == 3
            # The older one's pipeline is tried once more: too late.
            assert not drive().finished
            check_end(world)
            assert world.registry.rollout(MODEL, 2) is not None
            assert world.route.split.stable == 3
        if not killer.struck:
            break
        point += 1
    assert point > 50


def test_a_newer_version_that_is_killed_anywhere_leaves_one_of_both(tmp_path: Path):
    """The older one's driver lives, and begins while the newer one is nowhere."""

    def both(world: World) -> Drive:
        drive = serving(world)
        third = world.register()
        world.deployer.start(world.registry.version(MODEL, 2), world.folder / "made-2", 1)
        return lambda: newest(world, drive, third)

    def newest(world: World, drive: Drive, third: ModelVersion) -> Rollout:
        done = world.deploy(third, QUICK)
        try:
            assert not drive().finished
        except Conflict:
            raise AssertionError("nothing is being tried any more") from None
        return done

    def third_serves(world: World, done: Rollout) -> None:
        assert done.finished
        assert world.route.split == Split(3, previous=1)
        assert world.champions == [1, 3]

    assert everywhere(tmp_path, both, third_serves) > 50


@dataclass
class Chance:
    """Kills at random, so many times at most."""

    luck: random.Random
    share: float
    left: int

    def __call__(self, call: str) -> bool:
        if self.left and self.luck.random() < self.share:
            self.left -= 1
            return True
        return False


@pytest.mark.parametrize("seed", range(20))
def test_ten_rollouts_in_a_row_whose_drivers_are_killed_at_random_each_end_as_they_deserve(tmp_path: Path, seed: int):
    luck = random.Random(seed)
    world = World(tmp_path)
    world.deploy(world.register())
    stable, killed = 1, 0
    for number in range(2, 12):
        world.per_s = luck.choice([0, 200, 2000])
        bad = luck.choice([None, None, BAD, Behaviour(slow=0.6), Behaviour(bad=0.3)])
        version = world.register(bad)
        world.kill = chance = Chance(luck, luck.choice([0.01, 0.03, 0.1]), luck.randint(1, 8))
        allowed = chance.left

        while True:
            try:
                done = world.deploy(version, QUICK)
            except Killed:
                world.wall_offset -= luck.choice([0.0, 0.0, 3600.0])
                world.sleep(luck.choice([0.0, 0.1, 1.0, 3.0]))
            else:
                break
        killed += allowed - chance.left
        world.kill = lambda call: False
        assert done.finished == (bad is None), done.reason
        check_end(world)
        assert world.registry.rollout(MODEL, number) == ("finished" if bad is None else f"taken back: {done.reason}")
        if bad is None:
            assert world.route.split == Split(number, previous=stable)
            assert world.champions[-2:] == [stable, number]
            stable = number
        else:
            assert world.route.split.stable == stable
            assert world.champions[-1] == stable
            assert world.answered[number] == 0
    assert len(world.champions) == len(set(world.champions)), "once each"
    assert killed > 10
