"""Tells Prometheus what PodMonitors select, as its operator would: Debian's Prometheus can't ask Kubernetes itself.

    python3 discovery.py FILE NAMESPACE...

It runs in a pod beside Prometheus, on Python alone, and keeps FILE as `file_sd_configs` wants it.
"""

import json
import os
import ssl
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_POLL_S = 1.0
_TIMEOUT_S = 5.0
_KNOWN = {"selector", "podMetricsEndpoints"}


def targets(monitor: dict[str, Any], pods: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What a PodMonitor selects, of the pods of its namespace.

    Raises:
        ValueError: it says something that is not understood here, so that nothing is left out in silence.
    """
    spec, metadata = monitor["spec"], monitor["metadata"]
    unknown = [*(set(spec) - _KNOWN), *(set(spec["selector"]) - {"matchLabels"})]
    if unknown:
        raise ValueError(f"PodMonitor {metadata['name']}: {', '.join(unknown)} is not understood here")
    wanted = spec["selector"]["matchLabels"].items()
    for pod in pods:
        labels, status = pod["metadata"].get("labels", {}), pod["status"]
        if not wanted <= labels.items() or status["phase"] in ("Failed", "Succeeded") or not status.get("podIP"):
            continue
        for endpoint in spec["podMetricsEndpoints"]:
            for container in pod["spec"]["containers"]:
                for port in container.get("ports", []):
                    if port.get("name") == endpoint["port"]:
                        yield _target(metadata, pod, container, port, endpoint)


def _target(
    monitor: dict[str, Any],
    pod: dict[str, Any],
    container: dict[str, Any],
    port: dict[str, Any],
    endpoint: dict[str, Any],
) -> dict[str, Any]:
    labels = {
        "__metrics_path__": endpoint.get("path", "/metrics"),
        "job": f"{monitor['namespace']}/{monitor['name']}",
        "namespace": monitor["namespace"],
        "pod": pod["metadata"]["name"],
        "container": container["name"],
        "endpoint": endpoint["port"],
    }
    return {"targets": [f"{pod['status']['podIP']}:{port['containerPort']}"], "labels": labels}


def _get(path: str) -> list[dict[str, Any]]:
    server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    token = (_ACCOUNT / "token").read_text()
    request = urllib.request.Request(server + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    context = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context) as answer:  # noqa: S310
        items: list[dict[str, Any]] = json.load(answer)["items"]
    return items


def _all(namespaces: list[str]) -> Iterator[dict[str, Any]]:
    for namespace in namespaces:
        monitors = _get(f"/apis/monitoring.coreos.com/v1/namespaces/{namespace}/podmonitors")
        pods = _get(f"/api/v1/namespaces/{namespace}/pods")
        for monitor in monitors:
            yield from targets(monitor, pods)


def main(file: Path, namespaces: list[str]) -> None:
    """Keep the file; what can't be found out leaves it as it is."""
    written = ""
    while True:
        try:
            text = json.dumps(list(_all(namespaces)))
            if text != written:
                half = file.with_suffix(".part")
                half.write_text(text)
                half.rename(file)
                written = text
        except (OSError, ValueError, LookupError) as failed:
            print(f"targets stay as they are: {failed}", file=sys.stderr, flush=True)
        time.sleep(_POLL_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
