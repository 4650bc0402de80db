"""What commands share: the settings, the ports, the platform of this machine, and one run a model at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace import bootstrap, configuration
from headrace import settings as environment
from headrace.cli import CONTEXT
from headrace.errors import DataError, Unavailable, UsageError
from headrace.ports import Platform
from headrace.settings import Settings

if TYPE_CHECKING:
    from headrace.adapters.local.laptop import Laptop
    from headrace.adapters.local.processes import Processes


_START_S = 60.0


@dataclass(frozen=True)
class Session:
    """One command's view of the project."""

    settings: Settings

    @cached_property
    def platform(self) -> Platform:
        """The ports."""
        return bootstrap.platform(self.settings)

    @property
    def in_cluster(self) -> bool:
        """Whether the models run in a cluster."""
        return self.settings.context == "cluster"

    def require_local(self) -> None:
        """Raises UsageError in a cluster, which keeps its processes itself."""
        if self.in_cluster:
            raise UsageError("this is about the processes of this machine, and the context is cluster: ask kubectl")

    @cached_property
    def processes(self) -> "Processes":
        """The processes of this home. Raises UsageError in a cluster."""
        self.require_local()
        from headrace.adapters.local.processes import Processes

        return Processes(self.settings.home)

    @cached_property
    def laptop(self) -> "Laptop":
        """MLflow and Traefik of this machine."""
        from headrace.adapters.local.laptop import Laptop

        return Laptop(self.settings, self.processes)

    def model(self, name: str) -> str:
        """The model of that name. Raises UsageError when there is none."""
        return configuration.require_model(self.settings.root, name)

    def start_again(self, model: str, version: int) -> None:
        """Run a registered version that no longer runs, and wait until it is ready."""
        found = self.platform.registry.version(model, version)
        self.platform.deployer.start(found, self.platform.model_directory(found), _START_S)

    def require_platform(self) -> None:
        """Raises Unavailable when the platform of this machine is not up; a cluster's is asked when it is needed."""
        if self.in_cluster:
            return
        from headrace.adapters.local.laptop import answers

        for name, url in self.laptop.health().items():
            if not answers(url):
                raise Unavailable(f"{name} does not answer at {url}: start the platform with `headrace up`")

    @contextmanager
    def running(self, model: str) -> Iterator[None]:
        """Hold the model on this machine while its pipeline or its traffic is changed.

        What more than one machine may change is compared and swapped besides.

        Raises:
            Conflict: somebody else does.
        """
        from headrace.adapters.local import locks

        with locks.held(self.settings.home / "locks" / f"{model}.lock", 0, f"{model} is being changed already"):
            yield

    def last_run(self, model: str) -> Path | None:
        """The folder of the newest run of a model that got as far as a verdict."""
        from headrace.adapters.local.kfp_runner import outputs
        from headrace.steps.handover import VERDICT

        runs = self.settings.home / "runs" / model
        folders = sorted((path for path in runs.glob("*") if path.is_dir()), reverse=True)
        return next((folder for folder in folders if outputs(folder, VERDICT)), None)

    def report(self, model: str) -> Path:
        """The newest report of a model. Raises DataError when there is none."""
        from headrace.adapters.local.kfp_runner import outputs
        from headrace.steps.handover import REPORT

        folder = self.last_run(model)
        found = outputs(folder, REPORT) if folder else None
        if found is None:
            raise DataError(f"there is no report of {model} yet: `headrace run {model}` makes one")
        return found


def session() -> Session:
    """The session of this command: the one that its caller gave it, else that of the environment."""
    context = click.get_current_context(silent=True)
    given = context.find_object(Session) if context else None
    return given or Session(environment.read(context=context.meta.get(CONTEXT, "") if context else ""))
