"""Pods for the node's own tests: a server and a client made of programs that are there anyway."""

import json

from tests.cluster.node import archives, images, toolchain
from tests.cluster.node.place import CACHE, Node

SERVER_IMAGE = "localhost/headrace-node/coredns:1"
CLIENT_IMAGE = "localhost/headrace-node/kubectl:test"
SERVER_PORT = 8080
_COREFILE = ".:1053 {\n health :8080\n}\n"


def load_client(node: Node) -> None:
    """Bring the client's image into the node. Its program prints what `get --raw PATH --server=http://…` answers."""
    kubectl = toolchain.tool("kubectl")
    archive = CACHE / "images" / f"kubectl-{kubectl.parent.name}.oci.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    archives.write_once(archive, CLIENT_IMAGE, kubectl)
    images.load(archive, node)


def server(name: str) -> str:
    """Manifests of a pod that answers `/health` with `OK`, and its service."""
    files = {"name": "files", "configMap": {"name": name}}
    container = {
        "args": ["-conf", "/etc/server/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/health", "port": SERVER_PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "files", "mountPath": "/etc/server"}],
    }
    service = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": SERVER_PORT}]}
    return _list(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"Corefile": _COREFILE}},
        pod(name, SERVER_IMAGE, container, volumes=[files]),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service},
    )


def client(name: str, url: str, restart: str) -> str:
    """Manifest of a pod that asks for `url`'s `/health`, prints the answer and ends: with 1 after 5 s without one."""
    arguments = ["get", "--raw=/health", f"--server={url}", "--request-timeout=5s"]
    return json.dumps(pod(name, CLIENT_IMAGE, {"args": arguments}, restartPolicy=restart))


def pod(name: str, image: str, container: dict[str, object], **spec: object) -> dict[str, object]:
    """A pod that keeps to the restricted standard, unless `container` says otherwise."""
    security = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    only = {"name": "only", "image": image, "imagePullPolicy": "Never", "securityContext": security, **container}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [only],
            **spec,
        },
    }


def _list(*items: dict[str, object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
