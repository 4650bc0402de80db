"""What NetworkPolicies mean, as the Kubernetes API defines it: which policies let a connection through."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or an address that is no pod's.

    Attributes:
        namespace: of the pod; empty for an address.
        labels: of the pod.
        ports: the pod's ports by name.
        address: of what is no pod.
    """

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    address: str = ""


@dataclass(frozen=True)
class Granted:
    """Whether each end lets a connection pass, and the policies that say so; none when no policy selects that end."""

    leaves: bool
    enters: bool
    policies: frozenset[str]

    @property
    def allowed(self) -> bool:
        """Whether it comes through."""
        return self.leaves and self.enters


def granted(policies: Iterable[Policy], source: End, target: End, port: int, protocol: str = "TCP") -> Granted:
    """Look one connection up."""
    every = list(policies)
    leaves, out = _passes(every, "Egress", source, target, target, port, protocol)
    enters, into = _passes(every, "Ingress", target, source, target, port, protocol)
    return Granted(leaves, enters, frozenset(out + into))


def _passes(
    policies: Sequence[Policy], direction: str, own: End, other: End, target: End, port: int, protocol: str
) -> tuple[bool, list[str]]:
    """One end's side of it: isolated by any policy that selects it, and then let through by any rule."""
    selecting = [one for one in policies if _selects(one, own) and direction in _types(one)]
    if not selecting:
        return True, []
    peers = "from" if direction == "Ingress" else "to"
    through = [
        f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        for one in selecting
        for rule in one["spec"].get(direction.lower()) or []
        if _is_port(rule.get("ports"), target, port, protocol)
        and (not rule.get(peers) or any(_is_peer(peer, other, one["metadata"]["namespace"]) for peer in rule[peers]))
    ]
    return bool(through), through


def _types(policy: Policy) -> Sequence[str]:
    return policy["spec"].get("policyTypes") or ["Ingress", *(["Egress"] if policy["spec"].get("egress") else [])]


def _selects(policy: Policy, end: End) -> bool:
    return policy["metadata"]["namespace"] == end.namespace and _matches(policy["spec"]["podSelector"], end.labels)


def _is_peer(peer: Policy, end: End, own_namespace: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        # A pod's address is the network plugin's affair: no pod is meant by addresses here.
        return bool(end.address) and _within(end.address, block["cidr"], block.get("except", []))
    if not end.namespace:
        return False
    if "namespaceSelector" in peer:
        is_there = _matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace})
    else:
        is_there = end.namespace == own_namespace
    return is_there and _matches(peer.get("podSelector", {}), end.labels)


def _within(address: str, block: str, holes: Iterable[str]) -> bool:
    one = ip_address(address)
    return one in ip_network(block) and not any(one in ip_network(hole) for hole in holes)


def _is_port(ports: Sequence[Policy] | None, target: End, port: int, protocol: str) -> bool:
    if not ports:
        return True
    for one in ports:
        if one.get("protocol", "TCP") != protocol:
            continue
        first = one.get("port")
        if isinstance(first, str):
            first = target.ports.get(first)
            if first is None:
                continue
        if first is None or first <= port <= one.get("endPort", first):
            return True
    return False


def _matches(selector: Policy, labels: Mapping[str, str]) -> bool:
    exact = selector.get("matchLabels", {})
    if any(labels.get(name) != value for name, value in exact.items()):
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions", []))


def _holds(expression: Policy, labels: Mapping[str, str]) -> bool:
    has = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return has in expression["values"]
        case "NotIn":
            return has not in expression["values"]
        case "Exists":
            return has is not None
        case "DoesNotExist":
            return has is None
        case odd:
            raise ValueError(f"{odd} is no operator of a label selector")
