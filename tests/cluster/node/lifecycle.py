"""Bringing a node up and taking it down."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

from headrace.adapters.local.leftovers import PROGRAM_MARK
from tests.cluster.node import components, leftovers, network, pki, requirements, toolchain
from tests.cluster.node.locks import exclusive
from tests.cluster.node.place import CHECKOUT, Node, NodeError
from tests.cluster.node.programs import attempt

_CONTROLLERS = {"cpu", "memory", "pids"}
_FIRST_S = 10.0


def up(node: Node) -> None:
    """Have the node ready: API, node and cluster DNS. Does nothing if it is; starts anew what is only half there.

    Raises:
        NodeError: it can't be had here, or a component failed; nothing is left then.
    """
    requirements.check()
    toolchain.build()
    with exclusive(node.name):
        if is_up(node):
            return
        leftovers.remove(node)
        network.check_free(node)
        try:
            _start(node)
        except BaseException:
            leftovers.remove(node)
            raise


def down(node: Node) -> None:
    """Leave nothing of the node on the machine but the built binaries in the cache."""
    with exclusive(node.name):
        leftovers.remove(node)


def is_up(node: Node) -> bool:
    """Whether all components run and the API server says it is ready."""
    return set(running(node)) >= {*components.STORE, *components.CONTROLLERS} and _ready(node)


def running(node: Node) -> dict[str, psutil.Process]:
    """The node's components that run, by name."""
    found = {}
    for process in leftovers.processes(node):
        with contextlib.suppress(psutil.Error):
            # containerd's shims have its mark too; only components have their name for a program's.
            if (name := process.environ().get(PROGRAM_MARK)) and process.name()[:15] == name[:15]:
                found[name] = process
    return found


def _ready(node: Node) -> bool:
    options = (f"--kubeconfig={node.kubeconfig}", "--request-timeout=5s")
    return not attempt(toolchain.tool("kubectl"), *options, "get", "--raw=/readyz").returncode


def _start(node: Node) -> None:
    node.state.mkdir(mode=0o700)
    node.storage.mkdir(mode=0o700)
    node.logs.mkdir()
    for group in components.control_groups(node):
        _make_control_group(group)
    pki.write(node)
    components.write_configuration(node)
    first = _hold_namespaces(node)
    network.connect(node, first)
    environment = {**leftovers.mark(node), "PATH": toolchain.path(), "PYTHONPATH": str(CHECKOUT)}
    enter = ["nsenter", f"--target={first}", "--mount", "--net", "--pid"]
    boot = [sys.executable, "-m", "tests.cluster.node.boot", json.dumps(dataclasses.asdict(node))]
    done = subprocess.run(
        [*enter, *boot],
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if done.returncode:
        raise NodeError(f"the node did not come up: {done.stderr.strip()}")


def _hold_namespaces(node: Node) -> int:
    """Start the node's first process, in new namespaces. With it everything in them ends."""
    unshare = ["setsid", "--fork", "unshare", "--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--net"]
    with (node.logs / "first.log").open("wb") as log:
        subprocess.run(
            [*unshare, "--propagation=slave", str(toolchain.tool("pause"))],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=leftovers.mark(node),
        )
    deadline = time.monotonic() + _FIRST_S
    while time.monotonic() < deadline:
        for process in leftovers.processes(node):
            # Before it is the pause program, its /proc may still be the machine's.
            with contextlib.suppress(psutil.Error):
                if process.name() == "pause":
                    return process.pid
        time.sleep(0.01)
    raise NodeError(f"no new namespaces: {(node.logs / 'first.log').read_text().strip() or 'unshare hangs'}")


def _make_control_group(group: Path) -> None:
    available = group.parent / "cgroup.controllers"
    if available.exists():
        names = available.read_text().split()
        if missing := _CONTROLLERS - set(names):
            where = f"{group.parent} has no controllers {sorted(missing)}"
            raise NodeError(f"{where}: enable them in the kernel, or for this container")
        (group.parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))
    group.mkdir(exist_ok=True)
