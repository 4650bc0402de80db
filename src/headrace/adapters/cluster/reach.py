"""HTTP to what runs in the cluster, from a pod or from a desk.

Releases let in nobody but the proxy and Prometheus: they are asked through the Kubernetes API's port-forward, which
needs the right to do so. So is everything else of the cluster from outside; from a pod, it is asked directly.
"""

import http.client
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from headrace.adapters.answer import Answer, read
from headrace.adapters.cluster.kubernetes_api import CORE, Kubernetes, Object
from headrace.errors import HeadraceError, Unavailable, UsageError

_SERVICE = re.compile(r"(?P<name>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)\.svc(\.cluster\.local)?")


class Pod(NamedTuple):
    """Where something answers."""

    namespace: str
    name: str
    port: int


class Reach:
    """Args:
    kubernetes: finds pods, and forwards to them.
    releases: the namespace whose pods are only reached through the API.
    """

    def __init__(self, kubernetes: Kubernetes, releases: str) -> None:
        self._kubernetes = kubernetes
        self._releases = releases

    def ask(
        self,
        url: str,
        timeout_s: float,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """Ask a URL, e.g. ``http://traefik.traefik.svc/x``; None when there is no whole answer in time.

        Raises:
            UsageError: the cluster does not allow it.
        """
        parts = urlsplit(url)
        service = _SERVICE.fullmatch(parts.hostname or "")
        if service is None or (self._kubernetes.in_cluster and service["namespace"] != self._releases):
            return _directly(url, timeout_s, method, body, headers or {})
        pods = self.behind(service["namespace"], service["name"], parts.port or 80)
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        return self.ask_pod(pods[0], path, timeout_s, method, body, headers) if pods else None

    def ask_pod(
        self,
        pod: Pod,
        path: str,
        timeout_s: float,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """Ask one pod, on its loopback; None when there is no whole answer in time."""
        deadline = time.monotonic() + timeout_s
        try:
            with self._connected(pod, timeout_s) as connection:
                connection.request(method, path, body, dict(headers or {}))
                return read(connection.getresponse(), deadline)
        except (OSError, http.client.HTTPException, Unavailable):
            return None

    def behind(self, namespace: str, service: str, port: int) -> Sequence[Pod]:
        """The ready pods of a Service, and the port that its port leads to."""
        found = self._kubernetes.get(CORE, namespace, "services", service)
        if found is None:
            return []
        target: Any = next((one.get("targetPort", port) for one in found["spec"]["ports"] if one["port"] == port), port)
        pods = self.ready(namespace, found["spec"].get("selector") or {})
        return [Pod(namespace, pod["metadata"]["name"], _number(pod, target)) for pod in pods]

    def ready(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Object]:
        """The ready pods with these labels."""
        return [pod for pod in self._kubernetes.list(CORE, namespace, "pods", labels) if is_ready(pod)]

    @contextmanager
    def _connected(self, pod: Pod, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("localhost", pod.port)
        connection.sock = self._kubernetes.forward(*pod)
        connection.sock.settimeout(timeout_s)
        try:
            yield connection
        finally:
            connection.close()


def is_ready(pod: Object) -> bool:
    """Whether a pod takes requests; one that is ending does not."""
    conditions = pod["status"].get("conditions", [])
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _number(pod: Object, port: int | str) -> int:
    if isinstance(port, int):
        return port
    named = (one for container in pod["spec"]["containers"] for one in container.get("ports", []))
    return next((one["containerPort"] for one in named if one.get("name") == port), 0)


def _directly(url: str, timeout_s: float, method: str, body: bytes | None, headers: Mapping[str, str]) -> Answer | None:
    try:
        import httpx
    except ImportError as missing:
        raise HeadraceError(f"{missing}: install headrace with its extra `cluster`") from missing

    try:
        answer = httpx.request(method, url, content=body, headers=dict(headers), timeout=timeout_s)
    except httpx.HTTPError:
        return None
    except (httpx.InvalidURL, ValueError) as wrong:
        raise UsageError(f"{url!r} is no URL: {wrong}") from wrong
    return Answer(answer.status_code, answer.content)
