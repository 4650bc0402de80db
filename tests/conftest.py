"""A home of its own for every test that starts processes, and nothing left running after it."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.adapters.local.ports import next_free
from headrace.settings import Settings

pytest_plugins = ("tests.cluster.fixtures", "tests.cluster.platform.fixtures", "tests.contract.cluster_family")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now, below those that the kernel gives to outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        found.append(next_free(random.randrange(10_000, 30_000), set(found)))
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A project and a home in a folder of the test. What was started there is stopped; the test fails if any stays."""
    from headrace.adapters.local import leftovers
    from headrace.adapters.local.processes import Processes

    http_port, admin_port, mlflow_port = free_ports(3)
    home = tmp_path / "home"
    yield Settings(
        root=tmp_path,
        home=home,
        http_port=http_port,
        admin_port=admin_port,
        mlflow_port=mlflow_port,
        release_ports=20000 + os.getpid() % 1000 * 10,
    )
    Processes(home).stop_all()
    left = leftovers.tethered(os.path.realpath(home))
    assert not left, f"still running after stop_all: {left}"
