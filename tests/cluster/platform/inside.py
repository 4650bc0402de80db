"""Programs in a pod's own network, whatever its image has: in ephemeral containers, which stay in the pod's record."""

import json
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.cluster.platform.kubectl import Kubectl

_DEADLINE_S = 60
_LISTENS = "0A"
_UNCONNECTED = "07"
_TABLES = {"TCP": ("tcp", "tcp6"), "UDP": ("udp", "udp6")}
_LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


class Open(NamedTuple):
    """A port that something in a pod listens on."""

    protocol: str
    port: int
    on_loopback: bool


def pods(kubectl: Kubectl, namespace: str, labels: str) -> list[dict[str, Any]]:
    """Those that run and are not about to end."""
    found = json.loads(kubectl("get", "pods", f"-n={namespace}", f"-l={labels}", "-o=json"))["items"]
    return [one for one in found if one["status"]["phase"] == "Running" and "deletionTimestamp" not in one["metadata"]]


def run(kubectl: Kubectl, namespace: str, pod: str, command: Sequence[str]) -> str:
    """Run a program of the base image in a pod's network, and give what it printed.

    Raises:
        KubectlError: it failed, or did not end in time.
    """
    name = f"inside-{uuid.uuid4().hex[:8]}"
    kubectl(
        "debug", pod, f"-n={namespace}", f"-c={name}", "--image=localhost/headrace/base:test",
        "--image-pull-policy=IfNotPresent", "--profile=restricted", "--quiet", "--", *command,
    )  # fmt: skip
    ended = f"{{.status.ephemeralContainerStatuses[?(@.name=='{name}')].state.terminated.reason}}"
    kubectl("wait", f"pod/{pod}", f"-n={namespace}", f"--for=jsonpath={ended}=Completed", f"--timeout={_DEADLINE_S}s")
    return kubectl("logs", pod, f"-n={namespace}", f"-c={name}")


def listeners(kubectl: Kubectl, namespace: str, pod: str) -> set[Open]:
    """Every port that is listened on in a pod, from the kernel's own tables."""
    files = [f"/proc/net/{table}" for tables in _TABLES.values() for table in tables]
    return parse(run(kubectl, namespace, pod, ["grep", "-H", ":", *files]))


def parse(text: str) -> set[Open]:
    """Lines of the kernel's tables, each after the name of its file."""
    found = set()
    for line in text.splitlines():
        file, _, rest = line.partition(":")
        protocol = next(one for one, tables in _TABLES.items() if file.rpartition("/")[2] in tables)
        words = rest.split()
        local, state = words[1], words[3]
        if state == (_LISTENS if protocol == "TCP" else _UNCONNECTED):
            address, port = local.split(":")
            found.add(Open(protocol, int(port, 16), address in _LOOPBACK))
    return found
