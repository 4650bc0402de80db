"""`python -m tests.cluster.node up|down|status|build`."""

import argparse
import sys

from tests.cluster.node import lifecycle, toolchain
from tests.cluster.node.components import CONTROLLERS, STORE
from tests.cluster.node.place import CHECKOUT, Node, NodeError

KUBECONFIG = CHECKOUT / ".headrace/cluster/kubeconfig"


def main() -> int:
    """Run one command on the shared node."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.node", description="The tests' Kubernetes node.")
    parser.add_argument("command", choices=("up", "down", "status", "build"))
    command = parser.parse_args().command
    node = Node()
    if command == "build":
        toolchain.build()
    elif command == "up":
        lifecycle.up(node)
        KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
        KUBECONFIG.unlink(missing_ok=True)
        KUBECONFIG.symlink_to(node.kubeconfig)
        print(KUBECONFIG)
    elif command == "down":
        lifecycle.down(node)
        KUBECONFIG.unlink(missing_ok=True)
    else:
        return _status(node)
    return 0


def _status(node: Node) -> int:
    running = lifecycle.running(node)
    for name in (*STORE, *CONTROLLERS):
        print(f"{name:25}", f"runs, process {running[name].pid}" if name in running else "does not run")
    up = lifecycle.is_up(node)
    print(f"ready: {KUBECONFIG}" if up else f"not ready; logs, if any, are in {node.logs}")
    return 0 if up else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NodeError as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(130)
