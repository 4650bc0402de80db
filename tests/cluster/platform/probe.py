"""Try every connection from the pods themselves: what comes through has to be what the list of flows says.

Steps and model services are stood in for by pods with their labels. UDP gives no answer to go by, and is left out.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import yaml

from tests.cluster.platform import deployment, flows, inside
from tests.cluster.platform.access import api_ways
from tests.cluster.platform.flows import API, CLIENTS, DNS, FLOWS, LISTENERS, SERVICE, STEP
from tests.cluster.platform.kubectl import Kubectl

_RELEASE = "headrace-probe-v1"
_STRANGER = "headrace-probe-stranger"
_NAME = "app.kubernetes.io/name"
_ROLE = "headrace.dev/probe"
_IMAGE = "localhost/headrace/base:test"
_TRY = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def opens(where):
    try:
        socket.create_connection(where, 3).close()
        return True
    except OSError:
        return False
wanted = [tuple(one) for one in json.loads(sys.argv[1])]
with ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(opens, wanted))))
"""


class Connection(NamedTuple):
    """Who reaches whom, as the list of flows names them."""

    source: str
    target: str
    port: int


class Found(NamedTuple):
    """What came through and is not wanted, and what is wanted and did not come through."""

    unwanted: Sequence[Connection]
    missing: Sequence[Connection]


def probe(kubectl: Kubectl) -> Found:
    """Try every pod's way to every listener."""
    with _stand_ins(kubectl):
        places = _places(kubectl)
        targets = _targets(kubectl, places)
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda source: _opened(kubectl, source, places[source], targets), places)
            opened = {one for connections in found for one in connections}
    wanted = {Connection(one.source, one.target, one.port) for one in FLOWS if one.protocol == "TCP"}
    wanted = {one._replace(port=_api_port(kubectl)) if one.target == API else one for one in wanted}
    return Found(sorted(opened - wanted), sorted(wanted - opened))


def _places(kubectl: Kubectl) -> Mapping[str, tuple[str, str, str]]:
    """Pod by its name in the list of flows: namespace, name, address."""
    found: dict[str, tuple[str, str, str]] = {}
    chosen = {pod: (pod.split("/")[0], f"{_NAME}={pod.split('/')[1]},!{_ROLE}") for pod in _pods()}
    chosen[SERVICE] = (flows.HEADRACE, f"{_ROLE}=model-service")
    chosen[STEP] = (flows.HEADRACE, f"{_ROLE}=step")
    chosen[CLIENTS] = (_STRANGER, f"{_ROLE}=stranger")
    for name, (namespace, labels) in chosen.items():
        pod = inside.pods(kubectl, namespace, labels)[0]
        found[name] = (namespace, pod["metadata"]["name"], pod["status"]["podIP"])
    return found


def _pods() -> set[str]:
    return {one.pod for one in LISTENERS} - {SERVICE}


def _targets(kubectl: Kubectl, places: Mapping[str, tuple[str, str, str]]) -> Mapping[str, set[tuple[str, int]]]:
    targets: dict[str, set[tuple[str, int]]] = {}
    for one in LISTENERS:
        targets.setdefault(one.pod, set()).add((places[one.pod][2], one.port))
    dns = inside.pods(kubectl, flows.SYSTEM, "k8s-app=kube-dns")[0]
    targets[DNS] = {(dns["status"]["podIP"], 53)}
    targets[API] = {api_ways(kubectl)[-1]}
    return targets


def _api_port(kubectl: Kubectl) -> int:
    return api_ways(kubectl)[-1][1]


def _opened(
    kubectl: Kubectl, source: str, place: tuple[str, str, str], targets: Mapping[str, set[tuple[str, int]]]
) -> list[Connection]:
    namespace, pod, _ = place
    # Nobody is kept from himself, and what a stranger reaches outside our namespaces is not ours to say.
    tried = [
        (target, address, port)
        for target, ways in targets.items()
        for address, port in sorted(ways)
        if target != source and not (source == CLIENTS and target in (DNS, API))
    ]
    wanted = json.dumps([[address, port] for _, address, port in tried])
    answers = json.loads(inside.run(kubectl, namespace, pod, ["python3", "-c", _TRY, wanted]))
    return [Connection(source, one[0], one[2]) for one, opens in zip(tried, answers, strict=True) if opens]


@contextmanager
def _stand_ins(kubectl: Kubectl) -> Iterator[None]:
    """A step, a model service behind the chart's own policy, and a pod of somebody else; gone afterwards."""
    from tests.golden.charts.render import EVERYTHING, template

    values = {**EVERYTHING, "model": "headrace_probe", "version": 1, "networkPolicy": {}}
    rendered = [one for one in yaml.safe_load_all(template(values, _RELEASE)) if one]
    (policy,) = (one for one in rendered if one["kind"] == "NetworkPolicy")
    (service,) = (one for one in rendered if one["kind"] == "Deployment")
    labels = service["spec"]["template"]["metadata"]["labels"]
    metadata = {"name": _STRANGER, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata},
        policy,
        _pod(flows.HEADRACE, "model-service", labels),
        _pod(flows.HEADRACE, "step", {"app.kubernetes.io/component": "step"}),
        _pod(_STRANGER, "stranger", {}),
    ]
    try:
        deployment.apply(kubectl, objects)
        for namespace in (flows.HEADRACE, _STRANGER):
            kubectl("wait", "pod", f"-n={namespace}", f"-l={_ROLE}", "--for=condition=Ready", "--timeout=60s")
        yield
    finally:
        kubectl("delete", "pod", f"-n={flows.HEADRACE}", f"-l={_ROLE}", "--wait")
        kubectl("delete", "networkpolicy", _RELEASE, f"-n={flows.HEADRACE}", "--ignore-not-found")
        kubectl("delete", "namespace", _STRANGER, "--ignore-not-found", "--wait")


def _pod(namespace: str, role: str, labels: Mapping[str, str]) -> dict[str, Any]:
    container = {
        "name": "stand-in",
        "image": _IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "http.server", "8080", "--directory=/proc/self/fdinfo"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
    }
    metadata = {"name": f"headrace-probe-{role}", "namespace": namespace, "labels": {**labels, _ROLE: role}}
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
