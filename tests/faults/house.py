"""The laptop family in a folder: a real Traefik before real model services, and stand-ins where a fault needs one."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from headrace.adapters.local import leftovers, loopback, traefik
from headrace.adapters.local.process_deployer import ProcessDeployer, serving_command
from headrace.adapters.local.processes import Processes
from headrace.adapters.local.scraped_metrics import ScrapedMetrics
from headrace.adapters.local.traefik_router import TraefikRouter
from headrace.documents import write_json
from headrace.domain.split import Split
from headrace.settings import HOST, Settings
from tests import fakes
from tests.conftest import free_ports
from tests.contract.conftest import eventually, stand_in_command

ROOT = Path(__file__).parents[2]
MODEL = "flight_delay"


class House:
    """Traefik with releases behind it, below a folder; `close` ends them and says what did not go.

    Args:
        folder: for everything.
        trained: the directory of a real model, see `train`.
    """

    def __init__(self, folder: Path, trained: Path) -> None:
        http_port, admin_port, mlflow_port, release_ports = free_ports(4)
        self.settings = Settings(
            root=folder,
            home=folder / "home",
            http_port=http_port,
            admin_port=admin_port,
            mlflow_port=mlflow_port,
            release_ports=release_ports,
        )
        self.folder, self._trained = folder, trained
        self.body = json.dumps({"rows": [json.loads((trained / "contract.json").read_text())["example"]]}).encode()
        self.processes = Processes(self.settings.home)
        environment = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
        self._real = ProcessDeployer(self.settings, self.processes, serving_command, environment)
        self._stand_in = ProcessDeployer(self.settings, self.processes, stand_in_command, environment)
        self.router = TraefikRouter(self.settings, self.processes, self._urls)
        self.processes.declare(traefik.program(self.settings))
        eventually(self.proxy_answers)

    @property
    def url(self) -> str:
        """Where clients reach the models."""
        return f"http://{HOST}:{self.settings.http_port}"

    @property
    def environment(self) -> dict[str, str]:
        """For a command of Headrace's that is to work on this house."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        return kept | {
            "HEADRACE_PROJECT": str(ROOT),
            "HEADRACE_HOME": str(self.settings.home),
            "HEADRACE_HTTP_PORT": str(self.settings.http_port),
            "HEADRACE_ADMIN_PORT": str(self.settings.admin_port),
            "HEADRACE_MLFLOW_PORT": str(self.settings.mlflow_port),
            "HEADRACE_RELEASE_PORTS": str(self.settings.release_ports),
        }

    def serve(self, *versions: int) -> None:
        """Run the real service for versions of `MODEL`."""
        for version in versions:
            directory = shutil.copytree(self._trained, self.directory(MODEL, version))
            manifest = json.loads((directory / "manifest.json").read_text())
            write_json(directory / "manifest.json", {**manifest, "version": version})
            self._real.start(fakes.model_version(version), directory, timeout_s=60)

    def stand_in(self, model: str, *versions: int, **switches: str) -> None:
        """Run the stand-in service for versions of another model."""
        for version in versions:
            directory = fakes.model_directory(self.directory(model, version), model, version, **switches)
            self._stand_in.start(fakes.model_version(version, model), directory, timeout_s=60)

    def directory(self, model: str, version: int) -> Path:
        """Of a release; the stand-in's switches are files in it."""
        return self.folder / f"{model}-{version}"

    def split(self, model: str, split: Split) -> None:
        """Give a model's traffic to versions that run."""
        route = self.router.read(model)
        self.router.write(model, split, seen=route.generation if route else 0, note="")

    def answers(self, model: str = MODEL) -> int:
        """How many requests the services of a model have answered, as they say themselves."""
        counts = ScrapedMetrics(self._real).counts(model)
        assert set(counts) == set(self._urls(model))
        return sum(count.answers for count in counts.values())

    def process(self, release: str) -> psutil.Process | None:
        """The process of a release or of Traefik, while there is one."""
        state = next(state for state in self.processes.states() if state.name == release)
        return psutil.Process(state.pid) if state.pid else None

    def stop(self, model: str, version: int) -> None:
        """End a release for good."""
        self._real.stop(model, version)

    def forget(self, model: str) -> None:
        """End a model's releases, and take its route away."""
        (traefik.dynamic_folder(self.settings) / f"{model}.yml").unlink()
        for version in self._urls(model):
            self.stop(model, version)
            shutil.rmtree(self.directory(model, version))

    def address(self, model: str, version: int) -> str:
        """Of a release itself, without the proxy."""
        return self._urls(model)[version]

    def all_processes(self) -> list[psutil.Process]:
        """Everything that runs for this house, supervisord and children of children included."""
        return leftovers.tethered(os.path.realpath(self.settings.home))

    def proxy_answers(self) -> bool:
        """Whether Traefik is up."""
        answer = loopback.get(f"http://{HOST}:{self.settings.admin_port}/ping", 1.0)
        return answer is not None and answer.status == 200

    def heard(self, model: str, version: int) -> list[dict[str, str]]:
        """The headers of what a stand-in with the switch ``heard`` was asked to predict, in order."""
        return [json.loads(line) for line in (self.directory(model, version) / "heard").read_text().splitlines()]

    def held_by_traefik(self) -> dict[str, Any]:
        """What Traefik says that it holds."""
        answer = loopback.get(f"http://{HOST}:{self.settings.admin_port}/api/rawdata", 5.0)
        assert answer
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def close(self) -> None:
        """End everything; AssertionError if something stays."""
        self.processes.stop_all()
        assert not self.all_processes()

    def _urls(self, model: str) -> Mapping[int, str]:
        return {endpoint.version: endpoint.url for endpoint in self._real.running(model)}


def train(folder: Path) -> Path:
    """Make the directory of a small real model of `MODEL`."""
    from tests.serving import conftest as serving  # scikit-learn takes seconds to import

    contract = serving.make_contract("binary")
    content, predictions, rows = serving.train("binary", contract)
    (folder / "model.onnx").write_bytes(content)
    write_json(folder / "contract.json", contract)
    write_json(folder / "golden.json", {"rows": rows, "predictions": predictions, "tolerance": 1e-5})
    serving.seal(folder)
    return folder
