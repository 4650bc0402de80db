"""The platform up and down."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.platform import credentials, discovery
from tests.cluster.platform.access import api_policies, api_ways, forwards
from tests.cluster.platform.credentials import BUCKET, DATA, HEADRACE, MLFLOW, PREDICTIONS, REGION, S3, STORE, Passwords
from tests.cluster.platform.kubectl import Kubectl, KubectlError

MANIFESTS = Path(__file__).parent / "manifests"
NAMESPACES = (DATA, HEADRACE, "traefik", "monitoring")
IMAGES = ("base", "postgres", "redis", "seaweedfs", "mlflow", "traefik", "prometheus")
_MADE_BY = "headrace.dev/made-by"
_DEADLINE_S = 180


def documents() -> list[dict[str, Any]]:
    """Every object of the manifests, namespaces first."""
    return [one for file in sorted(MANIFESTS.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())]


def up(kubectl: Kubectl) -> Passwords:
    """Have the platform, and wait until all of it takes requests. Idempotent: passwords stay.

    Raises:
        KubectlError: a namespace of these names is somebody else's, or something is not ready in time.
    """
    _refuse_foreign(kubectl)
    made = _passwords(kubectl) or Passwords()
    first = [one for one in documents() if one["kind"] == "Namespace"]
    apply(kubectl, first)
    rest = [one for one in documents() if one["kind"] != "Namespace"]
    files = [
        _config_map(HEADRACE, "headrace-steps", step_settings()),
        _config_map("monitoring", "discovery", {"discovery.py": Path(discovery.__file__).read_text()}),
    ]
    fixed = [*files, *rest]
    _stamp(fixed)
    apply(kubectl, [*credentials.secret_objects(made), *api_policies(api_ways(kubectl)), *fixed])
    _wait(kubectl)
    _make_bucket(kubectl, made)
    return made


def down(kubectl: Kubectl) -> None:
    """Remove the platform, with all that runs in its namespaces. Idempotent."""
    _refuse_foreign(kubectl)
    kubectl("delete", "namespace", *NAMESPACES, "--ignore-not-found", "--wait", f"--timeout={_DEADLINE_S}s")


def apply(kubectl: Kubectl, objects: list[dict[str, Any]]) -> None:
    """Server-side apply."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=headrace-tests", "-f=-", stdin=text)


def memory(kubectl: Kubectl) -> dict[str, int]:
    """Resident bytes of the platform's pods, by ``namespace/deployment``: what kubelet reads from their cgroups."""
    names = {
        (one["metadata"]["namespace"], one["metadata"]["name"]) for one in documents() if one["kind"] == "Deployment"
    }
    nodes = kubectl("get", "nodes", "-o=name").split()
    found: dict[str, int] = {}
    for node in nodes:
        raw = kubectl("get", f"--raw=/api/v1/nodes/{node.partition('/')[2]}/proxy/stats/summary")
        for pod in json.loads(raw)["pods"]:
            where = pod["podRef"]["namespace"], pod["podRef"]["name"].rsplit("-", 2)[0]
            if where in names:
                found["/".join(where)] = found.get("/".join(where), 0) + pod["memory"]["workingSetBytes"]
    return found


def step_settings() -> dict[str, str]:
    """The environment of steps as far as it is no secret, for pods."""
    return {
        "HEADRACE_CONTEXT": "cluster",
        "HEADRACE_NAMESPACE": HEADRACE,
        "HEADRACE_STORE": STORE,
        "HEADRACE_STORE_ENDPOINT": S3,
        "HEADRACE_STORE_REGION": REGION,
        "HEADRACE_STORE_SECRET": credentials.SERVICES_STORE,
        "HEADRACE_ONLINE_STORE_SECRET": credentials.SERVICES_ONLINE_STORE,
        "HEADRACE_PREDICTION_LOG": PREDICTIONS,
        "HEADRACE_SERVING_IMAGE": "localhost/headrace/serving:test",
        "HEADRACE_COMPONENTS_IMAGE": "localhost/headrace/components:test",
        "HEADRACE_MLFLOW_URI": MLFLOW,
        "HEADRACE_DATA_REMOTE": f"s3://{BUCKET}/data",
        "AWS_ENDPOINT_URL": S3,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _config_map(namespace: str, name: str, data: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)}


def _stamp(objects: list[dict[str, Any]]) -> None:
    """Say in each Deployment which configuration it is for, so that pods are replaced when that changes."""
    for one in objects:
        if one["kind"] == "Deployment":
            namespace = one["metadata"]["namespace"]
            read = [o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["namespace"] == namespace]
            digest = hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:12]
            one["spec"]["template"]["metadata"]["annotations"] = {"headrace.dev/configuration": digest}


def _refuse_foreign(kubectl: Kubectl) -> None:
    found = json.loads(kubectl("get", "namespaces", "-o=json"))["items"]
    labels: Mapping[str, Any] = {one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in found}
    foreign = [name for name in NAMESPACES if name in labels and labels[name].get(_MADE_BY) != "tests"]
    if foreign:
        raise KubectlError(
            f"namespace {', '.join(foreign)} in this cluster was not made by these tests, which would change and "
            "remove it: give them another cluster in KUBECONFIG"
        )


def _passwords(kubectl: Kubectl) -> Passwords | None:
    """Those that were made; None when there are none yet."""
    found = kubectl("get", "secret", "passwords", f"-n={DATA}", "--ignore-not-found", "-o=json")
    if not found:
        return None
    return Passwords(**{name: base64.b64decode(one).decode() for name, one in json.loads(found)["data"].items()})


def _wait(kubectl: Kubectl) -> None:
    for one in documents():
        if one["kind"] == "Deployment":
            name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
            try:
                kubectl("rollout", "status", f"deployment/{name}", f"-n={namespace}", f"--timeout={_DEADLINE_S}s")
            except KubectlError as late:
                raise KubectlError(f"{late}\n{_last_words(kubectl, namespace)}") from late


def _last_words(kubectl: Kubectl, namespace: str) -> str:
    pods = kubectl("get", "pods", f"-n={namespace}")
    return pods + kubectl("get", "events", f"-n={namespace}", "--sort-by=.lastTimestamp")[-3000:]


def _make_bucket(kubectl: Kubectl, made: Passwords) -> None:
    from pyarrow.fs import S3FileSystem

    with forwards(kubectl, {"seaweedfs": (DATA, 8333)}) as ways:
        S3FileSystem(
            access_key="steps",
            secret_key=made.s3_steps,
            region=REGION,
            endpoint_override=f"http://{ways['seaweedfs'].place}",
            allow_bucket_creation=True,
        ).create_dir(BUCKET)
