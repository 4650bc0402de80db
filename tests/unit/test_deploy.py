"""A rollout through the ports: who gets traffic when, and what is left when it goes wrong."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headrace.domain.rollout import RolloutPolicy, RolloutStep, Split
from headrace.errors import Conflict, Unavailable
from headrace.ports import Platform
from headrace.steps.deploy import Clock, roll_out
from tests import fakes

MODEL = "flight_delay"
POLICY = RolloutPolicy(
    steps=(RolloutStep(5, 1.0), RolloutStep(50, 1.0), RolloutStep(100, 0)),
    probe_count=5,
    max_error_share=0.01,
    ready_timeout_s=10,
    step_timeout_s=30,
)


@dataclass
class World:
    """A platform of fakes in which versions can be registered and made to fail."""

    folder: Path
    status: dict[int, int] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.registry = fakes.FakeModelRegistry(self.folder / "registry")
        self.deployer = fakes.FakeDeployer()
        self.router = fakes.FakeRouter(lambda m: {e.version: e.url for e in self.deployer.running(m)})
        self.metrics = fakes.FakeMetricsSource()
        self.prober = fakes.FakeProber(self.answer)

    def answer(self, model: str, version: int | None) -> int:
        number = version if version is not None else self.deployer.running(model)[-1].version
        status = self.status.get(number, 200)
        if number not in self.silent:
            self.metrics.answer(model, number, status=status)
        return status

    @property
    def platform(self) -> Platform:
        return Platform(
            root=self.folder,
            home=self.folder / "home",
            environment="test",
            code_version=lambda model: fakes.lineage().code,
            data=fakes.FakeDataStore({}),
            features=fakes.FakeFeatureStore({}),
            registry=self.registry,
            deployer=self.deployer,
            router=self.router,
            metrics=self.metrics,
            prober=self.prober,
        )

    @property
    def clock(self) -> Clock:
        def sleep(seconds: float) -> None:
            self.now += seconds

        return Clock(lambda: self.now, sleep)

    def register(self, **switches: str):
        number = len(self.registry.versions(MODEL)) + 1
        directory = fakes.model_directory(self.folder / f"made-{number}", MODEL, number, **switches)
        (directory / "golden.json").write_text(json.dumps({"rows": [{"x": 1}]}))
        if number not in self.silent:
            self.metrics.serve(MODEL, number)
        return self.registry.register(fakes.lineage(run_key=f"k{number}"), directory)

    def deploy(self, version):
        return roll_out(self.platform, version, POLICY, self.clock)

    @property
    def splits(self) -> list[Split]:
        return [route.split for route in self.router.history]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def serving(world: World) -> World:
    assert world.deploy(world.register()).finished
    return world


def test_the_first_version_gets_all_traffic_once_it_answers(world: World):
    done = world.deploy(world.register())
    assert done.finished
    assert world.splits == [Split(1)]
    assert world.registry.alias(MODEL, "champion") == 1
    assert world.registry.rollout(MODEL, 1) == "finished"


def test_a_first_version_that_answers_with_errors_is_never_routed(world: World):
    world.status[1] = 500
    done = world.deploy(world.register())
    assert not done.finished
    assert "errors" in done.reason
    assert world.splits == []
    assert world.registry.alias(MODEL, "champion") is None
    assert list(world.deployer.running(MODEL)) == []


def test_a_good_version_climbs_the_steps_and_becomes_champion(serving: World):
    version = serving.register()
    serving.registry.set_alias(MODEL, "challenger", 2)
    assert serving.deploy(version).finished
    assert serving.splits[1:] == [Split(1, 2, 5), Split(1, 2, 50), Split(2, previous=1)]
    assert serving.registry.alias(MODEL, "champion") == 2
    assert serving.registry.alias(MODEL, "challenger") is None
    assert [e.version for e in serving.deployer.running(MODEL)] == [1, 2], "the old one stays for a rollback"


def test_each_step_is_held_for_its_time(serving: World):
    serving.deploy(serving.register())
    assert serving.now >= 2.0


def test_a_version_with_errors_is_taken_back_at_its_first_step(serving: World):
    serving.status[2] = 500
    done = serving.deploy(serving.register())
    assert not done.finished
    assert serving.splits[1:] == [Split(1, 2, 5), Split(1)]
    assert serving.registry.alias(MODEL, "champion") == 1
    assert serving.registry.rollout(MODEL, 2).startswith("taken back: ")
    assert [e.version for e in serving.deployer.running(MODEL)] == [1]


def test_a_version_without_evidence_is_taken_back_at_the_deadline(serving: World):
    serving.silent.add(2)
    done = serving.deploy(serving.register())
    assert not done.finished
    assert "no evidence" in done.reason
    assert serving.now >= POLICY.step_timeout_s
    assert serving.router.read(MODEL).split == Split(1)


def test_a_version_that_does_not_start_leaves_everything_as_it_was(serving: World):
    with pytest.raises(Unavailable, match="stopped while it started"):
        serving.deploy(serving.register(refuses="no such file"))
    assert serving.splits == [Split(1)]


def test_deploying_twice_changes_nothing(serving: World):
    version = serving.register()
    serving.deploy(version)
    before = serving.splits
    assert serving.deploy(version).finished
    assert serving.splits == before


def test_a_rollout_that_was_cut_off_goes_on_where_it_was(serving: World):
    version = serving.register()
    serving.deployer.start(version, serving.folder / "made-2", 1)
    route = serving.router.read(MODEL)
    serving.router.write(MODEL, Split(1, 2, 50), route.generation, "then the driver was killed")
    assert serving.deploy(version).finished
    assert serving.splits[2:] == [Split(2, previous=1)]


def test_a_newer_version_takes_the_place_of_an_unfinished_one(serving: World):
    second = serving.register()
    serving.deployer.start(second, serving.folder / "made-2", 1)
    route = serving.router.read(MODEL)
    serving.router.write(MODEL, Split(1, 2, 50), route.generation, "then the driver was killed")
    assert serving.deploy(serving.register()).finished
    assert serving.router.read(MODEL).split == Split(3, previous=1)
    assert [e.version for e in serving.deployer.running(MODEL)] == [1, 3]


def test_a_version_older_than_the_way_back_is_stopped(serving: World):
    for _ in range(2):
        serving.deploy(serving.register())
    assert [e.version for e in serving.deployer.running(MODEL)] == [2, 3]


def test_somebody_elses_write_stops_the_rollout_and_is_kept(serving: World):
    version = serving.register()

    def interfere(model: str, number: int | None) -> int:
        route = serving.router.read(model)
        if route.split.canary == 2:
            serving.router.write(model, Split(1), route.generation, "by hand")
        return World.answer(serving, model, number)

    answer: Callable[[str, int | None], int] = interfere
    serving.prober._answer = answer
    with pytest.raises(Conflict):
        serving.deploy(version)
    assert serving.router.read(MODEL).note == "by hand"
    assert serving.registry.alias(MODEL, "champion") == 1


def test_a_process_that_restarted_is_not_taken_for_evidence(serving: World):
    version = serving.register()
    calls = iter(range(100))

    def restart_midway(model: str, number: int | None) -> int:
        serving.metrics.answer(model, 2)
        if next(calls) == 2:
            serving.metrics.silence(model, 2)
            serving.metrics.serve(model, 2)
            serving.metrics.answer(model, 2, count=-1)
        return 200

    serving.prober._answer = restart_midway
    assert not serving.deploy(version).finished
    assert serving.router.read(MODEL).split == Split(1)
