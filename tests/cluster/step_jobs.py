"""A compiled pipeline on a cluster: a Job a task, as KFP would run its pod, and under Pod Security `restricted`."""

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.cluster.steps import PipelineRun, Task

LAUNCHER = Path(__file__).with_name("launcher.py")
SERVICE_ACCOUNT = "headrace-steps"
# KFP's scratch mounts, and /tmp: nothing else can be written.
_WRITABLE = ("/tmp", "/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config")  # noqa: S108 - mount points
_POLL_S = 0.5

Kubectl = Callable[..., str]


class StepFailed(AssertionError):
    """A task's Job failed; the message has its last lines and events."""


def run_pipeline(
    kubectl: Kubectl,
    namespace: str,
    text: str,
    arguments: Mapping[str, Any],
    root: str,
    run_id: str,
    timeout_s: float = 600,
    on_task: Callable[[str, Mapping[str, Any]], None] = lambda name, output: None,
) -> dict[str, Mapping[str, Any]]:
    """Run the pipeline to its end.

    Args:
        kubectl: runs it and returns what it printed: ``kubectl("get", "pods")``, input as `stdin`.
        namespace: with the service account, the settings and the Secrets of the steps.
        text: the compiled pipeline, with an image that the cluster has.
        arguments: of the pipeline.
        root: ``s3://bucket/prefix`` for artefacts.
        run_id: of the run; part of the Jobs' names, so lower case letters, digits and `-`.
        timeout_s: for one task.
        on_task: told of each task that has ended, with what it gave.

    Returns:
        Task to what its executor gave, in the order in which they ran.

    Raises:
        StepFailed: a task failed, or has not ended in time.
    """
    run = PipelineRun(text, arguments, root, run_id)
    outputs: dict[str, Mapping[str, Any]] = {}
    for task in run.tasks():
        kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(job(task, run_id)))
        outputs[task.name] = _output(kubectl, namespace, f"{run_id}-{task.name}", timeout_s)
        run.finished(task, outputs[task.name])
        on_task(task.name, outputs[task.name])
    return outputs


def job(task: Task, run_id: str) -> dict[str, Any]:
    """The manifest of a task's Job."""
    labels = {**task.platform.get("podMetadata", {}).get("labels", {}), "pipeline/runid": run_id}
    resources = task.resources
    container = {
        "name": "main",
        "image": task.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", LAUNCHER.read_text(), json.dumps(task.input), *task.command],
        "env": [*_from("secretAsEnv", "secret", task), *_from("configMapAsEnv", "configMap", task)],
        "resources": {
            "requests": {"cpu": resources["resourceCpuRequest"], "memory": resources["resourceMemoryRequest"]},
            "limits": {"memory": resources["resourceMemoryLimit"]},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": path, "subPath": _name(path)} for path in _WRITABLE],
    }
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": SERVICE_ACCOUNT,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, "fsGroup": 10001},
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
    }
    if deadline := task.platform.get("activeDeadlineSeconds"):
        pod["activeDeadlineSeconds"] = int(deadline)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{run_id}-{task.name}", "labels": labels},
        "spec": {"backoffLimit": task.retries, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def _name(path: str) -> str:
    return re.sub(r"\W", "", path)


def _from(listed: str, kind: str, task: Task) -> list[dict[str, Any]]:
    """Environment from Secrets or config maps, as kfp-kubernetes compiled it."""
    found = []
    for one in task.platform.get(listed, ()):
        for pair in one["keyToEnv"]:
            reference = {
                "name": one[f"{kind}Name"],
                "key": pair[f"{kind}Key"],
                "optional": one.get("optional", False),
            }
            found.append({"name": pair["envVar"], "valueFrom": {f"{kind}KeyRef": reference}})
    return found


def _output(kubectl: Kubectl, namespace: str, name: str, timeout_s: float) -> Mapping[str, Any]:
    """Wait for a Job's end and return its pod's termination message."""
    deadline = time.monotonic() + timeout_s
    while True:
        status = json.loads(kubectl("get", "job", name, "-n", namespace, "-o", "json")).get("status", {})
        ended = {one["type"] for one in status.get("conditions", ()) if one["status"] == "True"}
        if "Complete" in ended:
            break
        if "Failed" in ended or time.monotonic() > deadline:
            raise StepFailed(_why(kubectl, namespace, name, "failed" if ended else f"has not ended in {timeout_s:g} s"))
        time.sleep(_POLL_S)
    pods = json.loads(kubectl("get", "pods", "-n", namespace, "-l", f"job-name={name}", "-o", "json"))["items"]
    (done,) = [pod for pod in pods if pod["status"]["phase"] == "Succeeded"]
    (container,) = done["status"]["containerStatuses"]
    return json.loads(container["state"]["terminated"]["message"])


def _why(kubectl: Kubectl, namespace: str, name: str, what: str) -> str:
    selected = ("-n", namespace, "-l", f"job-name={name}")
    pods = json.loads(kubectl("get", "pods", *selected, "-o", "json"))["items"]
    containers = [one for pod in pods for one in pod["status"].get("containerStatuses", ())]
    states = [one["state"] for one in containers] or [pod["status"].get("conditions") for pod in pods]
    # No log of a container that never began, and no pod at all where Pod Security or a quota refused it.
    log = kubectl("logs", *selected, "--tail=60") if any(one.get("containerID") for one in containers) else ""
    events = kubectl("get", "events", "-n", namespace, "--field-selector", f"involvedObject.name={name}")
    return f"{name} {what}\n{log}\n{json.dumps(states)}\n{events}"
