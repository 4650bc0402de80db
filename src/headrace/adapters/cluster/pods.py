"""What keeps a workload from being ready, told from its Deployment, its pods, their events and their logs."""

from collections.abc import Iterator, Mapping, Sequence

from headrace.adapters import service_log
from headrace.adapters.cluster.kubernetes_api import CORE, Kubernetes, Object

# What does not mend itself within a start: the kubelet has tried at least twice.
_HOPELESS = {
    "ImagePullBackOff": "its image can't be pulled",
    "ErrImageNeverPull": "its image is not on the node, and must not be pulled",
    "InvalidImageName": "its image's name is none",
    "CreateContainerConfigError": "its container can't be made",
    "CreateContainerError": "its container can't be made",
    "RunContainerError": "its container can't be started",
}
# What the kubelet says when it was too slow itself, for instance to read a Secret: it tries again.
_LATE = "timed out waiting for the condition"
_LOG_LINES = 20


def is_available(deployment: Object) -> bool:
    """Whether all replicas of what was last asked for take requests."""
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    is_seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return bool(
        is_seen and wanted and min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0)) >= wanted
    )


class Diagnosis:
    """Args:
    kubernetes: the cluster.
    namespace: of the workload.
    labels: those of its pods.
    """

    def __init__(self, kubernetes: Kubernetes, namespace: str, labels: Mapping[str, str]) -> None:
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._labels = labels

    def hopeless(self, deployment: Object) -> str | None:
        """Why it will not become ready by waiting; None while it may."""
        for condition in deployment.get("status", {}).get("conditions", []):
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                return f"got no pod: {condition.get('message', condition.get('reason'))}"
        for pod in self._pods():
            for container in _containers(pod):
                reason = _stopped(container)
                if reason is not None:
                    return f"{reason}: {self._words(pod, container)}"
        return None

    def last_words(self) -> str:
        """What there is to say about one that is just not ready."""
        told = [
            f"{pod['metadata']['name']}: {said}"
            for pod in self._pods()
            for said in (self._unscheduled(pod) or self._waiting(pod),)
            if said
        ]
        return " / ".join(told[:3]) or "its pods, their events and their logs say nothing"

    def _pods(self) -> Sequence[Object]:
        return [
            pod
            for pod in self._kubernetes.list(CORE, self._namespace, "pods", self._labels)
            if "deletionTimestamp" not in pod["metadata"]
        ]

    def _unscheduled(self, pod: Object) -> str:
        conditions = pod["status"].get("conditions", [])
        found = (one for one in conditions if one["type"] == "PodScheduled" and one["status"] == "False")
        return next((f"no node takes it: {one.get('message', one.get('reason', ''))}" for one in found), "")

    def _waiting(self, pod: Object) -> str:
        events = self._kubernetes.events(self._namespace, pod["metadata"]["name"])
        warnings = [one.get("message", "") for one in events if one.get("type") == "Warning"]
        logs = [self._words(pod, one) for one in _containers(pod) if not one.get("ready")]
        return " / ".join(said for said in (*warnings[-2:], *logs[-1:]) if said)[:600]

    def _words(self, pod: Object, container: Object) -> str:
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _HOPELESS:
            return str(waiting.get("message") or container.get("image", ""))
        name = pod["metadata"]["name"]
        for previous in (False, True):
            log = self._kubernetes.log(self._namespace, name, container["name"], _LOG_LINES, previous)
            if said := service_log.reason(log.splitlines()):
                return said
        ended = _ended(container)
        return f"{ended.get('reason', 'its log says nothing')} (exit {ended.get('exitCode')})" if ended else ""


def _containers(pod: Object) -> Iterator[Object]:
    yield from pod["status"].get("initContainerStatuses", [])
    yield from pod["status"].get("containerStatuses", [])


def _stopped(container: Object) -> str | None:
    """How a container failed; None when it did not."""
    state = container.get("state", {})
    waiting = state.get("waiting", {})
    if waiting.get("reason") in _HOPELESS and _LATE not in waiting.get("message", ""):
        return _HOPELESS[waiting["reason"]]
    ended = _ended(container)
    if ended and (ended.get("exitCode") != 0 or container.get("restartCount", 0)):
        return "stopped while it started"
    return None


def _ended(container: Object) -> Object:
    """How a container ended last; empty when it never did."""
    states = (container.get("lastState") or {}, container.get("state") or {})
    return next((dict(one["terminated"]) for one in states if one.get("terminated")), {})
