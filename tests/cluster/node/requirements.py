"""What a node needs of the machine, and what to do where it is missing."""

import os
import shutil
import sys
from pathlib import Path

from tests.cluster.node.place import CHECKOUT, NodeError

PACKAGES = CHECKOUT / "tests/cluster/debian-packages.txt"
_OF_THE_NODE = ("containerd", "containernetworking-plugins", "iproute2", "nftables", "runc", "util-linux")


def check() -> None:
    """
    Raises:
        NodeError: no node can run here; the message says what to do.
    """
    if not sys.platform.startswith("linux"):
        raise NodeError(f"the test node needs Linux, this is {sys.platform}: set KUBECONFIG to use another cluster")
    if os.geteuid() != 0:
        raise NodeError("the test node needs root: run as root, or set KUBECONFIG to use another cluster")
    require_packages(*_OF_THE_NODE)


def require_packages(*names: str) -> None:
    """
    Raises:
        NodeError: what one of these Debian packages installs is not there.
    """
    files = dict(line.split() for line in PACKAGES.read_text().splitlines() if line and not line.startswith("#"))
    missing = [name for name in names if not _there(files[name])]
    if missing:
        looked = ", ".join(files[name] for name in missing)
        raise NodeError(f"{looked} not found: apt-get install --no-install-recommends {' '.join(missing)}")


def _there(file: str) -> bool:
    return bool(shutil.which(file)) or any(Path("/").glob(file.lstrip("/")))
