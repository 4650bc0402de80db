"""A version into service on a real Kubernetes, and a bad one back, with every request of a steady load counted."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from headrace import bootstrap
from headrace.cli import cli
from headrace.cli.session import Session
from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.ports import Platform as Ports
from headrace.settings import Settings
from headrace.steps.deploy import roll_out
from headrace.steps.handover import Rollout
from headrace.steps.watching import Clock
from tests import fakes
from tests.cluster.platform.fixtures import Platform
from tests.contract.cluster_family import Cluster
from tests.contract.traffic import Traffic
from tests.faults.rollouts import answering
from tests.faults.rollouts.platform import as_trained

MODEL = "flight_delay"
STEPS = (RolloutStep(shadow_pct=100, min_requests=50, hold_s=0), RolloutStep(20, min_requests=50, hold_s=0))
POLICY = RolloutPolicy(steps=STEPS, interval_s=1.0, ready_timeout_s=120)


@dataclass
class World:
    """The cluster's ports, models to register, and a load.

    Attributes:
        ports: those that `headrace --context cluster` has.
        trained: the directory of a real model, as a training leaves it.
        url: where this machine reaches the proxy.
        body: a request that the model answers.
    """

    ports: Ports
    settings: Settings
    trained: Path
    url: str
    body: bytes
    runs: Iterator[int]

    def register(self, directory: Path) -> ModelVersion:
        """A new version, of what a training would have left."""
        registry, key = self.ports.registry, f"{self.settings.home.name}-{next(self.runs)}"
        run = registry.start_run(MODEL, key, {})
        return registry.register(fakes.lineage(MODEL, key, experiment_run=run), directory)

    def roll_out(self, version: ModelVersion) -> Rollout:
        """As the deploy step does it."""
        return roll_out(self.ports, version, POLICY, Clock())

    def headrace(self, *arguments: str) -> None:
        """The command line."""
        cli.main(list(arguments), obj=Session(self.settings), standalone_mode=False)

    def running(self) -> dict[int, bool]:
        """Version to whether it is ready."""
        return {one.version: one.ready for one in self.ports.deployer.running(MODEL)}


@pytest.fixture(scope="module")
def world(
    cluster_session: Cluster, trained: Path, platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """With a first version in service."""
    home = tmp_path_factory.mktemp("cluster")
    settings = replace(
        cluster_session.settings, home=home, serving_image="localhost/headrace/serving:test", online_store_secret=""
    )
    body = json.dumps({"rows": [json.loads((trained / "contract.json").read_text())["example"]]}).encode()
    cluster_session.clear()
    made = World(
        bootstrap.platform(settings),
        settings,
        as_trained(trained, home / "trained"),
        platform.url("traefik"),
        body,
        iter(range(1, 1000)),
    )
    first = made.register(made.trained)
    assert made.roll_out(first).finished
    yield made
    cluster_session.clear()


def test_good_version_earns_all_traffic_and_nothing_is_lost(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = world.ports.router.read(MODEL)
    assert before is not None
    version = world.register(world.trained)
    with Traffic(world.url, MODEL, body=world.body) as traffic:
        traffic.wait_for(20)
        done = world.roll_out(version)
        traffic.mark()
        traffic.wait_for(50)
    assert done.finished, done.reason
    assert traffic.lost == []
    assert set(traffic.answered) == {version.version}
    assert world.ports.registry.alias(MODEL, "champion") == version.version
    route = world.ports.router.read(MODEL)
    assert route is not None
    assert (route.split.stable, route.split.previous) == (version.version, before.split.stable)
    assert world.running() == {before.split.stable: True, version.version: True}
    world.headrace("status")
    world.headrace("rollout", "explain", MODEL)
    said = capsys.readouterr().out
    assert f"v{version.version} champion" in said
    assert "shadow" in said


def test_bad_version_goes_back_on_evidence_of_the_shadow_and_its_workload_is_gone(world: World, tmp_path: Path) -> None:
    before = world.ports.router.read(MODEL)
    assert before is not None
    steady = before.split.stable
    version = world.register(answering.directory(world.trained, tmp_path / "bad"))
    # What it answers to this is no number; at the proof there was none of it.
    with Traffic(world.url, MODEL, body=answering.body(math.nan)) as traffic:
        traffic.wait_for(20)
        done = world.roll_out(version)
        traffic.wait_for(sum(traffic.answered.values()) + 20)
    assert not done.finished
    assert traffic.lost == []
    assert set(traffic.answered) == {steady}
    after = world.ports.router.read(MODEL)
    assert after is not None
    assert after.split == before.split
    assert version.version not in world.running()
    assert world.ports.registry.rollout(MODEL, version.version)


def test_rollback_gives_all_traffic_to_the_version_before_at_once(world: World) -> None:
    before = world.ports.router.read(MODEL)
    assert before is not None
    assert before.split.previous is not None
    with Traffic(world.url, MODEL, body=world.body) as traffic:
        traffic.wait_for(20)
        world.headrace("rollback", MODEL)
        traffic.mark()
        traffic.wait_for(50)
    assert traffic.lost == []
    assert set(traffic.answered) == {before.split.previous}
    assert world.ports.registry.alias(MODEL, "champion") == before.split.previous
