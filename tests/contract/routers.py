"""The routers that the contract suite holds: the fake, and a real Traefik in front of real processes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from headrace.adapters.local import traefik
from headrace.adapters.local.process_deployer import ProcessDeployer
from headrace.adapters.local.traefik_router import TraefikRouter
from headrace.ports import Router
from headrace.settings import Settings
from tests.fakes import FakeRouter, model_version

MODEL = "flight_delay"

Run = Callable[..., None]


class Harness(Protocol):
    """A router, how to have versions for it, and how to change by hand what it wrote."""

    router: Router
    run: Run

    def edit(self) -> None: ...


class Fake:
    """In memory."""

    def __init__(self) -> None:
        self._urls: dict[str, dict[int, str]] = {}
        self.router = FakeRouter(lambda model: self._urls.get(model, {}))

    def run(self, *versions: int, model: str = MODEL) -> None:
        self._urls.setdefault(model, {}).update({version: f"http://v{version}.invalid" for version in versions})

    def edit(self) -> None:
        self.router.drift[MODEL] = "somebody was here"


class Local:
    """Traefik before stand-ins."""

    def __init__(
        self, settings: Settings, router: TraefikRouter, deployer: ProcessDeployer, make: Callable[..., Path]
    ) -> None:
        self.settings, self.router, self.deployer, self._make = settings, router, deployer, make
        self._directories: dict[int, Path] = {}

    def run(self, *versions: int, model: str = MODEL, **switches: str) -> None:
        for version in versions:
            directory = self._make(version, model, **switches)
            self._directories[version] = directory
            self.deployer.start(model_version(version, model), directory, timeout_s=60)

    def directory(self, version: int) -> Path:
        """Of a version that was run; the stand-in's switches are files in it."""
        return self._directories[version]

    def heard(self, version: int) -> list[Mapping[str, str]]:
        """The headers of what a version with the switch ``heard`` was asked to predict."""
        lines = (self.directory(version) / "heard").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def file(self) -> Path:
        """Of the model's route."""
        return traefik.dynamic_folder(self.settings) / f"{MODEL}.yml"

    def edit(self) -> None:
        """Turn the weights of a split of 90 and 10 % into halves."""
        text = self.file.read_text()
        self.replace(text.replace('"weight": 90', '"weight": 50').replace('"weight": 10', '"weight": 50'))

    def change(self, by: Callable[[dict[str, Any]], None]) -> None:
        """Edit what Traefik reads in the file, and leave the record as it is."""
        first, _, rest = self.file.read_text().partition("\n")
        configuration = json.loads(rest)
        by(configuration["http"])
        self.replace(f"{first}\n{json.dumps(configuration)}\n")

    def replace(self, text: str) -> None:
        """In one move: a file that is emptied first is, for that moment, a valid one without routes."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)
