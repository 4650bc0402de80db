"""Where a node is: its names, addresses and folders."""

import os
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace/cluster"
CHECKOUT = Path(__file__).resolve().parents[3]
NODE_NAME = "node"
PODS = "10.244.0.0/24"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"


class NodeError(Exception):
    """The node can't be had or did not come up: what is missing or broke, and what to do."""


@dataclass(frozen=True)
class Node:
    """A node by its name. Two nodes differ in all three fields; pods and services are theirs alone."""

    name: str = "headrace-node"
    """Of the network namespace, the folders and the control group."""
    link: str = "hr0"
    """The host's end of the only wire to the node, at most 15 characters."""
    subnet: str = "10.250.0.0/30"
    """Two addresses: the host's and the node's."""

    @property
    def host_address(self) -> str:
        return str(IPv4Network(self.subnet)[1])

    @property
    def address(self) -> str:
        return str(IPv4Network(self.subnet)[2])

    @property
    def state(self) -> Path:
        """Certificates, configuration and the node's own /run."""
        return Path("/run") / self.name

    @property
    def storage(self) -> Path:
        """What may grow: images, volumes, logs."""
        return Path("/var/cache") / self.name

    @property
    def logs(self) -> Path:
        return self.storage / "logs"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.state / "admin.kubeconfig"

    @property
    def runtime(self) -> Path:
        """containerd's socket, as the host sees it."""
        return self.state / "run/containerd/containerd.sock"
