"""Who can reach whom: what the NetworkPolicies mean, flow by flow, and what listens."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import yaml

from tests.cluster.platform import deployment, flows, inside
from tests.cluster.platform.access import api_policies
from tests.cluster.platform.fixtures import Platform
from tests.cluster.platform.flows import API, CLIENTS, DNS, FLOWS, LISTENERS, LOOPBACK, SERVICE, STEP
from tests.cluster.platform.policies import End, Policy, granted
from tests.cluster.platform.probe import probe
from tests.golden.charts.render import EVERYTHING, template

_API = End(API, address="192.0.2.6")
_OUTSIDE = [End(CLIENTS, address="198.51.100.7"), End("a pod of somebody else", "default", {"app": "other"})]
_NAME, _COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
_ODD_PORT = 22


@pytest.fixture(scope="session")
def rendered(kubeconfig: object) -> Sequence[Mapping[str, Any]]:
    """A model service's objects; Helm came with the cluster."""
    values = {**EVERYTHING, "version": 1, "networkPolicy": {}}
    return [one for one in yaml.safe_load_all(template(values, "flight-delay-v1")) if one]


@pytest.fixture(scope="session")
def policies(rendered: Sequence[Mapping[str, Any]]) -> Sequence[Policy]:
    """All that count: the platform's, and those of one model service."""
    written = [one for one in (*deployment.documents(), *rendered) if one["kind"] == "NetworkPolicy"]
    return [*written, *api_policies([("10.96.0.1", 443), (_API.address, 6443)])]


@pytest.fixture(scope="session")
def ends(rendered: Sequence[Mapping[str, Any]]) -> Mapping[str, End]:
    """Every pod by its name in the list of flows, a pod without labels in each of our namespaces, and the others."""
    pods = [_pod(one) for one in (*deployment.documents(), *rendered) if one["kind"] == "Deployment"]
    pods += [End(f"{name}/unknown", name) for name in deployment.NAMESPACES]
    pods.append(End(STEP, flows.HEADRACE, {"app.kubernetes.io/part-of": "headrace", _COMPONENT: "step"}))
    pods.append(End(DNS, flows.SYSTEM, {"k8s-app": "kube-dns"}))
    return {one.name: one for one in (*pods, _API, *_OUTSIDE)}


def _pod(deployment: Mapping[str, Any]) -> End:
    namespace, template = deployment["metadata"]["namespace"], deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    ports = {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
    }
    return End(f"{namespace}/{labels[_NAME]}", namespace, labels, ports)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda one: f"{one.source}-{one.target}-{one.port}-{one.protocol}")
def test_listed_flow_is_let_through_by_the_policies_that_it_names(
    flow: flows.Flow, policies: Sequence[Policy], ends: Mapping[str, End]
) -> None:
    answer = granted(policies, ends[flow.source], ends[flow.target], flow.port, flow.protocol)
    assert answer.allowed
    assert answer.policies == flow.by


def test_whatever_is_not_listed_is_denied(policies: Sequence[Policy], ends: Mapping[str, End]) -> None:
    wanted = {(one.source, one.target, one.port, one.protocol) for one in FLOWS}
    # Whoever is not of our namespaces is a client.
    strangers = [one.name for one in ends.values() if one.namespace not in deployment.NAMESPACES]
    wanted |= {(name, flows.PROXY, 8000, "TCP") for name in strangers}
    tried = [(source, target, *port) for source, target in _pairs(ends) for port in _ports()]
    allowed = {
        (source.name, target.name, port, protocol)
        for source, target, port, protocol in tried
        if granted(policies, source, target, port, protocol).allowed
    }
    assert allowed == wanted


def _pairs(ends: Mapping[str, End]) -> Iterator[tuple[End, End]]:
    for source in ends.values():
        for target in ends.values():
            if source != target and {source.namespace, target.namespace} & set(deployment.NAMESPACES):
                yield source, target


def _ports() -> set[tuple[int, str]]:
    known = {(one.port, one.protocol) for one in LISTENERS} | {(one.port, one.protocol) for one in FLOWS}
    return known | {(port, "TCP") for ports in LOOPBACK.values() for port in ports} | {(_ODD_PORT, "TCP")}


def test_only_two_listeners_that_ask_nobody_are_reached_by_more_than_steps_and_prometheus() -> None:
    trusting = {(one.pod, one.port) for one in LISTENERS if not one.asks}
    reached = {(one.target, one.port) for one in FLOWS if one.source not in (STEP, flows.PROMETHEUS)}
    assert trusting & reached == {(flows.PROXY, 8000), (SERVICE, 8080)}


@pytest.mark.parametrize("pod", sorted({one.pod for one in LISTENERS} - {SERVICE}))
def test_what_listens_in_a_pod_is_what_is_listed(pod: str, platform: Platform) -> None:
    namespace, name = pod.split("/")
    (found,) = inside.pods(platform.kubectl, namespace, f"{_NAME}={name}")
    opened = inside.listeners(platform.kubectl, namespace, found["metadata"]["name"])
    on_network = {(one.port, one.protocol) for one in opened if not one.on_loopback}
    assert on_network == {(one.port, one.protocol) for one in LISTENERS if one.pod == pod}
    assert {one.port for one in opened if one.on_loopback} == LOOPBACK.get(pod, set())


def test_every_pod_of_the_platform_is_in_the_list(platform: Platform) -> None:
    running = set()
    for namespace in deployment.NAMESPACES:
        for pod in inside.pods(platform.kubectl, namespace, f"{_NAME},{_NAME}!=model-service"):
            running.add(f"{namespace}/{pod['metadata']['labels'][_NAME]}")
    assert running == {one.pod for one in LISTENERS} - {SERVICE}


def test_the_cluster_holds_the_policies_that_were_looked_at(platform: Platform, policies: Sequence[Policy]) -> None:
    names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in policies}
    for namespace in deployment.NAMESPACES:
        live = platform.kubectl("get", "networkpolicies", f"-n={namespace}", f"-l={_NAME}!=model-service", "-o=json")
        found = {(namespace, one["metadata"]["name"]) for one in json.loads(live)["items"]}
        assert found == {one for one in names if one[0] == namespace} - {(flows.HEADRACE, "flight-delay-v1")}


def test_every_wanted_connection_can_be_made_from_its_pod(platform: Platform) -> None:
    # Whether nothing else can is the network plugin's part: the node's has none.
    assert probe(platform.kubectl).missing == []


_TABLES = """\
/proc/net/tcp:   0: 0100007F:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001
/proc/net/tcp:   1: 0100007F:CD86 0100007F:1F40 06 00000000:00000000 03:00000F49 00000000     0
/proc/net/tcp6:   0: 00000000000000000000000000000000:208D 00000000000000000000000000000000:0000 0A 0:0 00:0 0 10001
/proc/net/udp:  12: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000 10001
"""


def test_kernel_tables_are_read_as_listeners_and_nothing_else() -> None:
    assert inside.parse(_TABLES) == {("TCP", 8082, True), ("TCP", 8333, False), ("UDP", 53, False)}


def _policy(**spec: Any) -> Policy:
    return {"metadata": {"namespace": "a", "name": "one"}, "spec": {"podSelector": {}, **spec}}


_IN_A, _IN_B = End("x", "a", {"app": "x"}, {"web": 80}), End("y", "b", {"app": "y"})


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [
        (_policy(policyTypes=["Ingress"]), False),
        (_policy(policyTypes=["Egress"]), True),
        (_policy(policyTypes=["Ingress"], ingress=[{}]), True),
        (_policy(), False),
        (_policy(podSelector={"matchLabels": {"app": "z"}}), True),
        (_policy(ingress=[{"ports": [{"port": "web"}]}]), True),
        (_policy(ingress=[{"ports": [{"port": "other"}]}]), False),
        (_policy(ingress=[{"ports": [{"port": 70, "endPort": 80}]}]), True),
        (_policy(ingress=[{"ports": [{"port": 80, "protocol": "UDP"}]}]), False),
        (_policy(ingress=[{"from": [{"podSelector": {}}]}]), False),
        (_policy(ingress=[{"from": [{"namespaceSelector": {}}]}]), True),
        (_policy(ingress=[{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "x"}}}]}]), False),
        (_policy(ingress=[{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]), False),
        (_policy(podSelector={"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]}), True),
        (_policy(podSelector={"matchExpressions": [{"key": "app", "operator": "Exists"}]}), False),
    ],
)
def test_policy_means_what_the_api_says(policy: Policy, allowed: bool) -> None:
    assert granted([policy], _IN_B, _IN_A, 80).allowed is allowed
