"""What keeps a workload from being ready, told from objects as Kubernetes has them."""

import json
from typing import Any

import pytest

from headrace.adapters.cluster.pods import Diagnosis, is_available
from tests.unit.cluster.fake_kubernetes import FakeKubernetes

LABELS = {"headrace.dev/model": "flight_delay", "headrace.dev/version": "3"}
DEPLOYMENT: dict[str, Any] = {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": {}}


def pod(name: str = "p", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": LABELS}, "status": status}


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    """The status of a container that waits."""
    told = {"reason": reason} | ({"message": message} if message else {})
    return {"name": "service", "image": "registry/none:1", "state": {"waiting": told}, **more}


def ended(code: int, name: str = "service", reason: str = "Error", **more: Any) -> dict[str, Any]:
    """The status of a container that ended."""
    return {"name": name, "state": {"terminated": {"exitCode": code, "reason": reason}}, **more}


def diagnosis(*pods: dict[str, Any]) -> tuple[Diagnosis, FakeKubernetes]:
    kubernetes = FakeKubernetes(pods=pods)
    return Diagnosis(kubernetes, "headrace", LABELS), kubernetes


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("ImagePullBackOff", 'Back-off pulling image "registry/none:1"', "its image can't be pulled: Back-off"),
        ("ErrImageNeverPull", "", "its image is not on the node, and must not be pulled: registry/none:1"),
        ("InvalidImageName", "", "its image's name is none: registry/none:1"),
        ("CreateContainerConfigError", 'secret "headrace-store" not found', 'made: secret "headrace-store" not found'),
        ("RunContainerError", "no such user", "its container can't be started: no such user"),
    ],
)
def test_what_does_not_mend_itself_is_said_in_the_clusters_words(reason: str, message: str, expected: str):
    told, _ = diagnosis(pod(containerStatuses=[waiting(reason, message)]))
    assert expected in (told.hopeless(DEPLOYMENT) or "")


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing", "ErrImagePull"])
def test_what_may_mend_itself_is_waited_for(reason: str):
    told, _ = diagnosis(pod(containerStatuses=[waiting(reason)]), pod("new"))
    assert told.hopeless(DEPLOYMENT) is None


def test_kubelet_that_was_too_slow_is_waited_for_and_said_at_the_deadline():
    late = "failed to sync secret cache: timed out waiting for the condition"
    told, _ = diagnosis(pod(containerStatuses=[waiting("CreateContainerConfigError", late)]))
    assert told.hopeless(DEPLOYMENT) is None
    assert late in told.last_words()


def test_init_container_that_refuses_is_told_with_the_words_of_its_log():
    told, kubernetes = diagnosis(
        pod(initContainerStatuses=[ended(6, "fetch")], containerStatuses=[waiting("PodInitializing")])
    )
    kubernetes.logs["p", "fetch", False] = "model.onnx is not the recorded one: its sha256 is 0a, not 0b\n"
    assert told.hopeless(DEPLOYMENT) == (
        "stopped while it started: model.onnx is not the recorded one: its sha256 is 0a, not 0b"
    )


def test_init_container_that_did_its_work_is_no_failure():
    told, _ = diagnosis(
        pod(
            initContainerStatuses=[ended(0, "fetch", "Completed", restartCount=0)],
            containerStatuses=[{"name": "service", "state": {"running": {}}, "ready": False}],
        )
    )
    assert told.hopeless(DEPLOYMENT) is None


def test_crash_loop_is_told_with_the_error_of_the_process_before():
    last = {"terminated": {"exitCode": 1, "reason": "Error"}}
    told, kubernetes = diagnosis(
        pod(containerStatuses=[waiting("CrashLoopBackOff", restartCount=2, lastState=last, ready=False)])
    )
    lines = [{"level": "info", "event": "starts"}, {"level": "error", "event": "refused", "reason": "no such feature"}]
    kubernetes.logs["p", "service", True] = "\n".join(json.dumps(line) for line in lines)
    assert told.hopeless(DEPLOYMENT) == "stopped while it started: refused no such feature"


def test_process_that_was_killed_without_a_word_is_told_with_the_reason():
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    state = {"name": "service", "state": {"running": {}}, "lastState": last, "restartCount": 1}
    told, _ = diagnosis(pod(containerStatuses=[state]))
    assert told.hopeless(DEPLOYMENT) == "stopped while it started: OOMKilled (exit 137)"


def test_quota_that_allows_no_pod_is_told():
    failure = {"type": "ReplicaFailure", "status": "True", "message": 'pods "x" is forbidden: exceeded quota: small'}
    told, _ = diagnosis()
    assert told.hopeless({**DEPLOYMENT, "status": {"conditions": [failure]}}) == (
        'got no pod: pods "x" is forbidden: exceeded quota: small'
    )
    assert told.hopeless({**DEPLOYMENT, "status": {"conditions": [{**failure, "status": "False"}]}}) is None


def test_pod_that_is_ending_is_not_looked_at():
    old = pod(containerStatuses=[waiting("ImagePullBackOff")])
    old["metadata"] = {**old["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    told, _ = diagnosis(old)
    assert told.hopeless(DEPLOYMENT) is None
    assert told.last_words() == "its pods, their events and their logs say nothing"


def test_pod_that_no_node_takes_is_told_with_the_schedulers_words():
    condition = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: Insufficient memory"}
    told, _ = diagnosis(pod(conditions=[condition]))
    assert told.hopeless(DEPLOYMENT) is None
    assert told.last_words() == "p: no node takes it: 0/1 nodes are available: Insufficient memory"


def test_pod_that_is_just_not_ready_is_told_with_its_last_warnings_and_its_log():
    told, kubernetes = diagnosis(pod(containerStatuses=[{"name": "service", "state": {"running": {}}, "ready": False}]))
    kubernetes.told["p"] = [
        {"type": "Normal", "message": "Started"},
        {"type": "Warning", "message": "Readiness probe failed: 503"},
    ]
    kubernetes.logs["p", "service", False] = "the online store does not answer"
    assert told.last_words() == "p: Readiness probe failed: 503 / the online store does not answer"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2}, True),
        ({"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ({"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 2}, False),
        ({"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 1}, False),
        ({"observedGeneration": 2}, False),
        ({}, False),
    ],
)
def test_deployment_is_available_once_all_of_what_was_last_asked_for_is(status: dict[str, int], expected: bool):
    made = {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}
    assert is_available(made) is expected


def test_deployment_of_no_replicas_is_not_available():
    status = {"observedGeneration": 1, "updatedReplicas": 0, "availableReplicas": 0}
    assert not is_available({"metadata": {"generation": 1}, "spec": {"replicas": 0}, "status": status})
