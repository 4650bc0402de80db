"""The node's network: one wire to the host, no route to anywhere else."""

import json
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from tests.cluster.node.place import SERVICES, Node, NodeError
from tests.cluster.node.programs import attempt, run

# What a pod sends to the host, or the host to a pod, goes through the API server or not at all.
_NO_TRANSIT = """
table inet headrace {
  chain transit {
    type filter hook forward priority 0
    iifname "eth0" drop
    oifname "eth0" drop
  }
}
"""


def check_free(node: Node) -> None:
    """
    Raises:
        NodeError: somebody else has the node's name, link or addresses.
    """
    if (Path("/run/netns") / node.name).exists():
        raise NodeError(
            f"the network namespace {node.name} is there, and this program did not make it: "
            f"if nobody needs it, ip netns delete {node.name}"
        )
    wanted = IPv4Network(node.subnet)
    for link in json.loads(run("ip", "-j", "addr")):
        if link["ifname"] == node.link:
            raise NodeError(
                f"the network link {node.link} is there, and this program did not make it: "
                f"if nobody needs it, ip link delete {node.link}"
            )
        for address in link["addr_info"]:
            taken = ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
            if isinstance(taken, IPv4Network) and taken.overlaps(wanted):
                raise NodeError(f"{link['ifname']} has the addresses {taken}, which the node needs: {wanted}")


def connect(node: Node, pid: int) -> None:
    """Name the network namespace of this process and lay the wire."""
    run("ip", "netns", "attach", node.name, str(pid))
    run("ip", "link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", node.name)
    run("ip", "addr", "add", f"{node.host_address}/30", "dev", node.link)
    run("ip", "link", "set", node.link, "up")
    run("ip", "-n", node.name, "addr", "add", f"{node.address}/30", "dev", "eth0")
    for link in ("eth0", "lo"):
        run("ip", "-n", node.name, "link", "set", link, "up")
    # Without it the kernel finds no route to a service's address and kube-proxy's rules never see the packet.
    run("ip", "-n", node.name, "route", "add", SERVICES, "dev", "eth0")


def close() -> None:
    """Forward between pods only. To be called inside the node."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    run("nft", _NO_TRANSIT)


def disconnect(node: Node) -> None:
    """Remove the name and the wire, if they are there."""
    if (Path("/run/netns") / node.name).exists():
        run("ip", "netns", "delete", node.name)
    # The kernel takes the link with the namespace, but a moment later.
    if (Path("/sys/class/net") / node.link).exists():
        attempt("ip", "link", "delete", node.link)
