"""Taking a node away, in whatever state it is."""

import contextlib
import os
import shutil
import time
from pathlib import Path

import psutil

from headrace.adapters.local import leftovers
from tests.cluster.node import network
from tests.cluster.node.components import control_groups
from tests.cluster.node.place import Node, NodeError

_GONE_S = 20.0


def mark(node: Node) -> dict[str, str]:
    """The environment by which the node's processes are known. The first takes the pods along."""
    return {**os.environ, leftovers.HOME_MARK: str(node.state)}


def processes(node: Node) -> list[psutil.Process]:
    """All that run, by their mark."""
    return leftovers.tethered(str(node.state))


def remove(node: Node) -> None:
    """End its processes, remove its network, control groups and folders. Does nothing where there is nothing.

    Raises:
        NodeError: something does not go.
    """
    leftovers.end(lambda: processes(node), grace_s=0)
    if not node.state.exists():
        return
    network.disconnect(node)
    deadline = time.monotonic() + _GONE_S
    for root in control_groups(node):
        while root.exists() and not _removed(root):
            if time.monotonic() > deadline:
                raise NodeError(f"the control group {root} can't be removed: are there processes in it?")
            time.sleep(0.02)
    if node.storage.exists():
        shutil.rmtree(node.storage)
    shutil.rmtree(node.state)


def _removed(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()
