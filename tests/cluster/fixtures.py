"""The cluster that these tests use: the one that KUBECONFIG names, or else a node of our own on this machine."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.cluster.node import lifecycle
from tests.cluster.node.place import Node, NodeError
from tests.cluster.platform.kubectl import Kubectl


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the cluster comes last: in CI the node's binaries are built while the others run."""
    items.sort(key=_needs_cluster)


def _needs_cluster(item: pytest.Item) -> bool:
    """By its fixtures, or as the one of a contract suite's parameters that asks for them when it runs."""
    return bool({"kubeconfig", "node"} & set(getattr(item, "fixturenames", ()))) or "[cluster" in item.nodeid


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """The test node: up already and staying so (`make cluster`), or of this session."""
    shared = Node()
    if (named := os.environ.get("KUBECONFIG")) and Path(named).resolve() != shared.kubeconfig:
        pytest.skip(f"KUBECONFIG names another cluster than the test node: {named}")
    try:
        stays = lifecycle.is_up(shared)
        lifecycle.up(shared)
    except NodeError as error:
        not_to_be_had(str(error))
    yield shared
    if not stays:
        lifecycle.down(shared)


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """An administrator's access to the cluster."""
    if named := os.environ.get("KUBECONFIG"):
        return Path(named)
    node: Node = request.getfixturevalue("node")
    return node.kubeconfig


@pytest.fixture(scope="session")
def kubectl(kubeconfig: Path) -> Kubectl:
    """kubectl on the cluster: `kubectl("get", "pods")`."""
    return Kubectl(kubeconfig)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of the test, in which only restricted pods may run."""
    name = f"headrace-test-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    kubectl("delete", "namespace", name, "--wait", "--timeout=120s")


def not_to_be_had(reason: str) -> NoReturn:
    """Skip what needs a cluster; fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"no cluster, and in CI there has to be one: {reason}", pytrace=False)
    pytest.skip(reason)
