"""Ways to what runs in the cluster: for processes of this machine, and for pods to the Kubernetes API."""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.cluster.platform.kubectl import Kubectl
from tests.conftest import free_ports

_DEADLINE_S = 30.0
_AGAIN_S = 0.5
_NAME = "app.kubernetes.io/name"
_CLIENTS = {
    "headrace": {"app.kubernetes.io/component": "step"},
    "traefik": {_NAME: "traefik"},
    "monitoring": {_NAME: "prometheus"},
}


def api_ways(kubectl: Kubectl) -> list[tuple[str, int]]:
    """Addresses and ports of the Kubernetes API: its Service's first, then those that the Service leads to."""
    slices = json.loads(
        kubectl("get", "endpointslices", "-n=default", "-l=kubernetes.io/service-name=kubernetes", "-o=json")
    )["items"]
    service = json.loads(kubectl("get", "service", "kubernetes", "-n=default", "-o=json"))["spec"]
    behind = [
        (address, one["ports"][0]["port"]) for one in slices for end in one["endpoints"] for address in end["addresses"]
    ]
    return [(service["clusterIP"], service["ports"][0]["port"]), *behind]


def api_policies(ways: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """NetworkPolicies that let pods with a token reach the Kubernetes API."""
    rules = [{"to": [{"ipBlock": {"cidr": f"{address}/32"}}], "ports": [{"port": port}]} for address, port in ways]
    return [_api_policy(namespace, labels, rules) for namespace, labels in _CLIENTS.items()]


def _api_policy(namespace: str, labels: Mapping[str, str], rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "kubernetes-api", "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": dict(labels)}, "policyTypes": ["Egress"], "egress": rules},
    }


class Forward:
    """A port of this machine that leads to a Service's pod: again after that pod was replaced."""

    def __init__(self, kubectl: Kubectl, namespace: str, name: str, port: int, kind: str = "service") -> None:
        (self.port,) = free_ports(1)
        self._command = [
            *kubectl.command, "port-forward", f"--namespace={namespace}", f"{kind}/{name}", f"{self.port}:{port}",
        ]  # fmt: skip
        self._ends = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> "Forward":
        self._keeper.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ends.set()
        if self._process is not None:
            self._process.terminate()
        self._keeper.join(_DEADLINE_S)

    def wait(self) -> None:
        """Until it takes connections."""
        for _ in range(int(_DEADLINE_S / 0.1)):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            self._ends.wait(0.1)
        raise AssertionError(f"{' '.join(self._command)} takes no connection within {_DEADLINE_S:g} s")

    def lose(self) -> None:
        """As when the pod goes."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _keep(self) -> None:
        while not self._ends.is_set():
            self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self._ends.is_set():
                self._process.terminate()
            self._process.wait()
            self._ends.wait(_AGAIN_S)


@contextmanager
def forwards(kubectl: Kubectl, wanted: Mapping[str, tuple[str, int]]) -> Iterator[dict[str, Forward]]:
    """Forwards that are gone afterwards. Args: wanted: Service to its namespace and port."""
    with ExitStack() as stack:
        made = {
            service: stack.enter_context(Forward(kubectl, namespace, service, port))
            for service, (namespace, port) in wanted.items()
        }
        for one in made.values():
            one.wait()
        yield made
