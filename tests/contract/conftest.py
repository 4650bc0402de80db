"""The laptop family with a stand-in for the model service."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from headrace.adapters.local import loopback, traefik
from headrace.adapters.local.process_deployer import ProcessDeployer
from headrace.adapters.local.processes import Processes
from headrace.adapters.local.traefik_router import TraefikRouter
from headrace.settings import HOST, Settings
from tests import databases, fakes
from tests.contract.routers import MODEL, Fake, Harness, Local

ROOT = Path(__file__).parents[2]
STAND_IN = Path(__file__).with_name("stand_in_service.py")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[databases.Redis]:
    """A Redis for the tests of a file."""
    with databases.redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a database for the tests of a file."""
    with databases.postgres() as url:
        yield url


def eventually(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait for a condition; AssertionError at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


def stand_in_command(directory: Path, port: int) -> tuple[str, ...]:
    """Runs the stand-in service as the model service is run."""
    return (sys.executable, str(STAND_IN), "--directory", str(directory), "--host", HOST, "--port", str(port))


@pytest.fixture
def processes(settings: Settings) -> Processes:
    """Without a daemon yet."""
    return Processes(settings.home)


@pytest.fixture
def local_deployer(settings: Settings, processes: Processes) -> ProcessDeployer:
    """Runs the stand-in service."""
    environment = {"PYTHONPATH": str(ROOT / "src")}
    return ProcessDeployer(settings, processes, command=stand_in_command, environment=environment)


@pytest.fixture
def proxy(settings: Settings, processes: Processes) -> str:
    """A real Traefik; its address for clients."""
    processes.declare(traefik.program(settings))
    ping = f"http://{HOST}:{settings.admin_port}/ping"
    eventually(lambda: (answer := loopback.get(ping, 1.0)) is not None and answer.status == 200)
    return f"http://{HOST}:{settings.http_port}"


@pytest.fixture
def local_router(
    settings: Settings, processes: Processes, proxy: str, local_deployer: ProcessDeployer
) -> TraefikRouter:
    """In front of what the deployer runs."""

    def urls(model: str) -> Mapping[int, str]:
        return {endpoint.version: endpoint.url for endpoint in local_deployer.running(model)}

    return TraefikRouter(settings, processes, urls)


@pytest.fixture
def local(
    settings: Settings,
    local_router: TraefikRouter,
    local_deployer: ProcessDeployer,
    model_directory: Callable[..., Path],
) -> Local:
    """A real Traefik before stand-ins."""
    return Local(settings, local_router, local_deployer, model_directory)


@pytest.fixture(params=["fake", "local", "cluster"])
def harness(request: pytest.FixtureRequest) -> Harness:
    """Each router in turn."""
    if request.param == "fake":
        return Fake()
    return request.getfixturevalue("local" if request.param == "local" else "cluster_routes")


@pytest.fixture
def model_directory(tmp_path: Path) -> Callable[..., Path]:
    """Makes the directory of a version, with switches of the stand-in as files."""

    def make(version: int, model: str = MODEL, **switches: str) -> Path:
        return fakes.model_directory(tmp_path / f"{model}-{version}", model, version, **switches)

    return make
