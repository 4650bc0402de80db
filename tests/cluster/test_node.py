"""The node is a real Kubernetes, it leads nowhere, and it leaves nothing."""

import contextlib
import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from tests.cluster import pods
from tests.cluster.node import images, leftovers, lifecycle, network, requirements
from tests.cluster.node.components import control_groups
from tests.cluster.node.place import CHECKOUT, Node, NodeError
from tests.cluster.node.programs import attempt, run
from tests.cluster.platform.kubectl import Kubectl, KubectlError

_HOSTS_PATHS = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/usr/libexec/kubernetes")
_UP = """\
import json, sys
from tests.cluster.node import lifecycle, place
lifecycle.up(place.Node(**json.loads(sys.argv[1])))
"""


@pytest.fixture
def own(node: Node) -> Iterator[Node]:
    """A second node beside the shared one, for this test to break."""
    second = Node("headrace-node-test", "hr-test", "10.250.0.4/30")
    lifecycle.down(second)
    yield second
    lifecycle.down(second)


def test_restricted_pod_answers_by_its_services_name(node: Node, kubectl: Kubectl, namespace: str) -> None:
    pods.load_client(node)
    kubectl("apply", "--namespace", namespace, "--filename=-", stdin=pods.server("answering"))
    kubectl("wait", "--namespace", namespace, "pod/answering", "--for=condition=Ready", "--timeout=60s")
    asking = pods.client("asking", f"http://answering.{namespace}.svc", "OnFailure")
    kubectl("apply", "--namespace", namespace, "--filename=-", stdin=asking)
    succeeded = "--for=jsonpath={.status.phase}=Succeeded"
    kubectl("wait", "--namespace", namespace, "pod/asking", succeeded, "--timeout=60s")
    assert kubectl("logs", "--namespace", namespace, "asking") == "OK"


def test_pod_gets_no_answer_from_the_machine(node: Node, kubectl: Kubectl, namespace: str) -> None:
    pods.load_client(node)
    with socket.create_server((node.host_address, 0)) as machine:
        asking = pods.client("asking", f"http://{node.host_address}:{machine.getsockname()[1]}", "Never")
        kubectl("apply", "--namespace", namespace, "--filename=-", stdin=asking)
        kubectl(
            "wait", "--namespace", namespace, "pod/asking", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s"
        )
        machine.settimeout(0)
        with pytest.raises(BlockingIOError):
            machine.accept()


def test_nothing_has_a_route_out(node: Node) -> None:
    routes = json.loads(run("ip", "-n", node.name, "-j", "route"))
    assert {route["dev"] for route in routes if route["dst"] == "default"} == set()
    assert attempt("ip", "-n", node.name, "route", "get", "192.0.2.1").returncode != 0


def test_privileged_pod_is_refused(kubectl: Kubectl, namespace: str) -> None:
    privileged = pods.pod("privileged", pods.SERVER_IMAGE, {"securityContext": {"privileged": True}})
    with pytest.raises(KubectlError, match=r'violates PodSecurity "restricted'):
        kubectl("apply", "--namespace", namespace, "--filename=-", stdin=json.dumps(privileged))


@pytest.mark.parametrize("port", [6443, 10250])
def test_nobody_is_let_in_without_a_certificate(node: Node, port: int) -> None:
    trust = ssl.create_default_context(cafile=node.state / "ca.crt")
    connection = http.client.HTTPSConnection(node.address, port, context=trust, timeout=10)
    connection.request("GET", "/pods")
    assert connection.getresponse().status == 401
    connection.close()


def test_only_two_ports_are_open_to_the_machine(node: Node) -> None:
    listening = run("nsenter", f"--net=/run/netns/{node.name}", "ss", "-Hltn").splitlines()
    open_ports = {line.split()[3] for line in listening if not line.split()[3].startswith("127.0.0.1:")}
    assert open_ports == {"*:6443", f"{node.address}:10250"}


def test_second_up_changes_nothing(node: Node) -> None:
    before = lifecycle.running(node)
    lifecycle.up(node)
    assert lifecycle.running(node) == before


def test_image_that_is_no_archive_is_refused_with_the_way_to_make_one(node: Node, tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_text("no archive")
    with pytest.raises(NodeError, match="buildah push IMAGE oci-archive:FILE:IMAGE"):
        images.load(tmp_path / "no.tar", node)


def test_down_leaves_nothing_and_does_it_twice(own: Node) -> None:
    before = _host()
    lifecycle.up(own)
    assert lifecycle.is_up(own)
    lifecycle.down(own)
    assert _traces(own) == []
    assert _host() == before
    lifecycle.down(own)


def test_two_ups_at_once_make_one_node(own: Node) -> None:
    both = [_up(own), _up(own)]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    assert [process.name() for process in leftovers.processes(own)].count("etcd") == 1


def test_down_leaves_nothing_after_everything_was_killed(own: Node) -> None:
    lifecycle.up(own)
    for process in leftovers.processes(own):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    lifecycle.down(own)
    assert _traces(own) == []


def test_down_leaves_nothing_after_an_up_that_was_killed(own: Node) -> None:
    starting = _start(own)
    starting.kill()
    starting.wait()
    assert leftovers.processes(own)
    lifecycle.down(own)
    assert _traces(own) == []


def test_interrupted_up_leaves_nothing(own: Node) -> None:
    starting = _start(own)
    starting.send_signal(signal.SIGINT)
    assert starting.wait(timeout=60) != 0
    assert _traces(own) == []


def test_dead_component_is_found_dead_and_started_anew(own: Node) -> None:
    lifecycle.up(own)
    victim = lifecycle.running(own)["kube-scheduler"]
    victim.kill()
    victim.wait()
    assert not lifecycle.is_up(own)
    lifecycle.up(own)
    assert lifecycle.is_up(own)


def test_last_words_of_a_component_that_dies_are_in_the_error(own: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_ELECTION_TIMEOUT", "never")
    with pytest.raises(NodeError, match=r"(?s)etcd ended with .*never"):
        lifecycle.up(own)
    assert _traces(own) == []


def test_network_namespace_of_somebody_else_is_named_and_left_alone(own: Node) -> None:
    run("ip", "netns", "add", own.name)
    try:
        with pytest.raises(NodeError, match=f"network namespace {own.name} is there"):
            lifecycle.up(own)
        lifecycle.down(own)
        assert own.name in run("ip", "netns", "list")
    finally:
        run("ip", "netns", "delete", own.name)


def test_taken_addresses_are_named(node: Node) -> None:
    with pytest.raises(NodeError, match=rf"{node.link} has the addresses {node.subnet}"):
        network.check_free(Node("headrace-node-test", "hr-test", node.subnet))


def test_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NodeError, match="runc not found: apt-get install --no-install-recommends runc"):
        requirements.require_packages("runc")


def _up(node: Node) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _UP, json.dumps(asdict(node))], cwd=CHECKOUT)


def _start(node: Node) -> subprocess.Popen[bytes]:
    """An `up` of its own that is on its way: its components are being started."""
    starting = _up(node)
    while not (node.logs / "kube-apiserver.log").exists():
        assert starting.poll() is None, "up ended before it had started anything"
    return starting


def _host() -> dict[str, object]:
    """What of the machine a node could change and that is there without one."""
    sysctls = [
        Path("/proc/sys", name).read_text() for name in ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory")
    ]
    return {"sysctls": sysctls, "folders": [path for path in _HOSTS_PATHS if Path(path).exists()]}


def _traces(node: Node) -> list[object]:
    """All that is left of a node."""
    groups = [group for group in control_groups(node) if group.exists()]
    folders = [folder for folder in (node.state, node.storage, Path("/run/netns", node.name)) if folder.exists()]
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"/{node.name}" in line]
    links = [link for link in Path("/sys/class/net").iterdir() if link.name == node.link]
    return [*leftovers.processes(node), *groups, *folders, *mounts, *links]
