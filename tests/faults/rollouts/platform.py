"""The platform of the laptop, whole, with small models: MLflow, Traefik, releases, and a proxy before MLflow."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.adapters.http_prober import HttpProber
from headrace.adapters.labelled_log import LabelledLog
from headrace.adapters.local import traefik
from headrace.adapters.local.journal import FolderJournal
from headrace.adapters.local.laptop import Laptop
from headrace.adapters.local.process_deployer import ProcessDeployer, serving_command
from headrace.adapters.local.scraped_metrics import ScrapedMetrics
from headrace.adapters.mlflow_registry import MlflowRegistry
from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.split import Split
from headrace.ports import Platform, Route
from headrace.steps.deploy import roll_out
from headrace.steps.handover import Rollout
from headrace.steps.watching import Clock
from tests import fakes
from tests.contract.traffic import Traffic
from tests.faults.house import MODEL, ROOT, House
from tests.faults.rollouts.between import Between

POLICY = RolloutPolicy(steps=(RolloutStep(20, min_requests=10, hold_s=0),), interval_s=0.25)


@dataclass
class Rollouts:
    """A house with MLflow in it.

    Attributes:
        trained: the directory of a real model, as a training leaves it.
        between: the proxy through which `registry` talks to MLflow.
        registry: to be used as everybody does.
    """

    house: House
    trained: Path
    between: Between
    registry: MlflowRegistry

    def __post_init__(self) -> None:
        settings, processes = self.house.settings, self.house.processes
        environment = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
        self.deployer = ProcessDeployer(settings, processes, serving_command, environment)
        self.laptop = Laptop(settings, processes)
        self._registered = Counter[str]()

    @property
    def platform(self) -> Platform:
        """The ports; what prepares data is a fake."""
        settings = self.house.settings
        return Platform(
            root=settings.root,
            home=settings.home,
            environment="test",
            code_version=lambda model: fakes.lineage().code,
            data=fakes.FakeDataStore({}),
            features=fakes.FakeFeatureStore({}),
            registry=self.registry,
            deployer=self.deployer,
            router=self.house.router,
            metrics=ScrapedMetrics(self.deployer),
            prober=HttpProber(),
            journal=FolderJournal(settings.home / "rollouts"),
            outcomes=LabelledLog(str(settings.home / "predictions")),
        )

    def register(self, directory: Path | None = None) -> ModelVersion:
        """A new version of `MODEL`, of what a training would have left in `directory`."""
        self._registered[MODEL] += 1
        key = f"k{self._registered[MODEL]}"
        run = self.registry.start_run(MODEL, key, {})
        return self.registry.register(fakes.lineage(MODEL, key, experiment_run=run), directory or self.trained)

    def roll_out(
        self, version: ModelVersion, policy: RolloutPolicy = POLICY, platform: Platform | None = None
    ) -> Rollout:
        """As `headrace run` does it in the end."""
        return roll_out(platform or self.platform, version, policy, Clock())

    def route(self) -> Route:
        """What the router holds for `MODEL`."""
        route = self.house.router.read(MODEL)
        assert route
        return route

    def start_mlflow(self) -> None:
        """And wait until it answers."""
        self.laptop.start()
        # Takes this process as long as MLflow needs to start, and has to be done anyway.
        import mlflow.onnx  # noqa: F401

        self.laptop.wait(lambda said: None)

    def forget(self, model: str) -> None:
        """End another model's releases, and take its route away."""
        (traefik.dynamic_folder(self.house.settings) / f"{model}.yml").unlink(missing_ok=True)
        for endpoint in self.deployer.running(model):
            self.deployer.stop(model, endpoint.version)

    @contextmanager
    def nothing_changes(self, version: ModelVersion) -> Iterator[Traffic]:
        """Under constant load: `version` never runs nor is routed, and who answers goes on answering, every request."""
        before = self.route()
        with Traffic(self.house.url, MODEL, body=self.house.body) as traffic:
            traffic.wait_for(20)
            yield traffic
            traffic.wait_for(sum(traffic.answered.values()) + 20)
        assert traffic.lost == []
        assert set(traffic.answered) == {before.split.stable}
        assert self.route() == before
        assert version.version not in {endpoint.version for endpoint in self.deployer.running(MODEL)}
        versions = self.house.settings.home / "versions"
        assert version.release not in {path.name.lstrip(".") for path in versions.iterdir()}
        assert not list(versions.glob(".*")), "something half downloaded stays"


def as_trained(served: Path, to: Path) -> Path:
    """A model directory as a training leaves it, of one as it is served: without the manifest."""
    return Path(shutil.copytree(served, to, ignore=shutil.ignore_patterns("manifest.json")))


def back_to(rollouts: Rollouts, number: int) -> None:
    """Give a version everything, and end all others, as if nothing had been."""
    version = rollouts.registry.version(MODEL, number)
    rollouts.deployer.start(version, rollouts.platform.model_directory(version), timeout_s=60)
    rollouts.house.router.write(MODEL, Split(number), rollouts.route().generation, "as it was")
    rollouts.registry.set_alias(MODEL, "champion", number)
    for endpoint in rollouts.deployer.running(MODEL):
        if endpoint.version != number:
            rollouts.deployer.stop(MODEL, endpoint.version)
