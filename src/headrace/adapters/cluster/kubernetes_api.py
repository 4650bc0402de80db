"""The Kubernetes API as plain JSON, with errors that say what to do."""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.errors import Conflict, Unavailable, UsageError

if TYPE_CHECKING:
    import socket

    from kubernetes.client import ApiClient

Object = dict[str, Any]

TRAEFIK = "apis/traefik.io/v1alpha1"
APPS = "apis/apps/v1"
CORE = "api/v1"
MODEL_LABEL, VERSION_LABEL = "headrace.dev/model", "headrace.dev/version"
"""Labels of everything that belongs to a release."""
_CONNECT_S, _READ_S = 5.0, 15.0
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_APPLY = "application/apply-patch+yaml"
_FIELD_MANAGER = "headrace"


class Kubernetes:
    """Requests with the rights of KUBECONFIG's current context, or in a pod with those of its service account.

    Every method raises Unavailable when the cluster does not answer, UsageError when it refuses who asks.
    """

    def get(self, api: str, namespace: str, kind: str, name: str) -> Object | None:
        """One object; `kind` is plural (``deployments``). None when it is not there."""
        return self._ask("GET", _path(api, namespace, kind, name))

    def list(self, api: str, namespace: str, kind: str, labels: Mapping[str, str] | None = None) -> Sequence[Object]:
        """The objects that have all these labels; none when the kind or the namespace is unknown."""
        query = [("labelSelector", ",".join(f"{key}={value}" for key, value in labels.items()))] if labels else []
        found = self._ask("GET", _path(api, namespace, kind), query=query)
        return self._items(found)

    def events(self, namespace: str, name: str) -> Sequence[Object]:
        """The events about an object of that name, oldest first."""
        found = self._ask(
            "GET", _path(CORE, namespace, "events"), query=[("fieldSelector", f"involvedObject.name={name}")]
        )
        return sorted(self._items(found), key=lambda one: one.get("lastTimestamp") or one.get("eventTime") or "")

    def log(self, namespace: str, pod: str, container: str, line_count: int, previous: bool = False) -> str:
        """The last lines of a container's log; empty when there is none."""
        query = [("container", container), ("tailLines", str(line_count)), ("previous", str(previous).lower())]
        try:
            return self._ask("GET", f"{_path(CORE, namespace, 'pods', pod)}/log", query=query, as_text=True) or ""
        except UsageError:  # a container that has not begun has none yet
            return ""

    def create(self, api: str, namespace: str, kind: str, body: Object) -> Object:
        """Raises Conflict when there is one already, UsageError when there is no such namespace or kind."""
        made = self._ask("POST", _path(api, namespace, kind), body)
        if made is None:
            raise UsageError(f"{kind} can't be made: the namespace {namespace} or the kind is not there{self._where}")
        return made

    def replace(self, api: str, namespace: str, kind: str, body: Object) -> Object:
        """Write an object that was read: compared and swapped by its resourceVersion.

        Raises:
            Conflict: somebody wrote since, or removed it.
        """
        name = body["metadata"]["name"]
        written = self._ask("PUT", _path(api, namespace, kind, name), body)
        if written is None:
            raise Conflict(f"{kind}/{name} in {namespace} is gone: somebody removed it; read again")
        return written

    def apply(self, api: str, namespace: str, kind: str, body: Object) -> Object:
        """Have an object as `body` says, whoever wrote it before (server-side apply, forced). Idempotent."""
        query = [("fieldManager", _FIELD_MANAGER), ("force", "true")]
        path = _path(api, namespace, kind, body["metadata"]["name"])
        made = self._ask("PATCH", path, body, query, content_type=_APPLY)
        if made is None:
            raise UsageError(
                f"{kind} can't be written: the namespace {namespace} or the kind is not there{self._where}"
            )
        return made

    def delete(self, api: str, namespace: str, kind: str, name: str) -> None:
        """Remove an object. Idempotent."""
        self._ask("DELETE", _path(api, namespace, kind, name))

    def forward(self, namespace: str, pod: str, port: int) -> "socket.socket":
        """A connection to a port on a pod's loopback, through the API."""
        from kubernetes.client import ApiException, CoreV1Api
        from kubernetes.stream import portforward

        _hush_forwarders()
        # It changes the client that it is given: one of its own.
        connect = CoreV1Api(self._new_client()).connect_get_namespaced_pod_portforward
        try:
            return portforward(connect, pod, namespace, ports=str(port)).socket(port)
        except ApiException as refused:
            # The library keeps the answer to itself, in what it was raised from.
            answer = refused.__context__
            refused.status, refused.body = getattr(answer, "status_code", 0), getattr(answer, "resp_body", None)
            told = self._told(refused, f"{pod} in {namespace}, port {port}")
            # A pod may go at any time; only a right that lacks is the caller's affair.
            raise (told if refused.status in (401, 403) else Unavailable(str(told))) from refused
        except Exception as failed:
            raise Unavailable(f"{pod} in {namespace} can't be reached on port {port}: {failed}") from failed

    @property
    def in_cluster(self) -> bool:
        """Whether this process is a pod of the cluster."""
        return _SERVICE_ACCOUNT.exists()

    def require_namespace(self, namespace: str) -> None:
        """Raises UsageError when there is no such namespace; who may not look is let through."""
        try:
            found = self._ask("GET", f"/api/v1/namespaces/{quote(namespace)}")
        except UsageError:
            return
        if found is None:
            raise UsageError(
                f"there is no namespace {namespace}{self._where}: create it, or name another in HEADRACE_NAMESPACE"
            )

    def _items(self, found: Any) -> Sequence[Object]:
        if found is None:
            return []
        if not isinstance(found, dict) or not isinstance(found.get("items"), list):
            raise Unavailable(f"what answers at {self._client.configuration.host} is no Kubernetes: it gives no list")
        return list(found["items"])

    @property
    def _where(self) -> str:
        return f" in the cluster at {self._client.configuration.host}"

    @cached_property
    def _client(self) -> "ApiClient":
        return self._new_client()

    def _new_client(self) -> "ApiClient":
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            if self.in_cluster:
                config.load_incluster_config(client_configuration=configuration)
            else:
                # The library reads KUBECONFIG when it is imported, which may be before it is set.
                named = os.environ.get("KUBECONFIG") or None
                config.load_kube_config(config_file=named, client_configuration=configuration)
        except Exception as missing:
            raise UsageError(f"no Kubernetes cluster: {missing}; name its kubeconfig in KUBECONFIG") from missing
        # Answers come from this cluster or not at all; a slow one is asked again by whoever needs it.
        configuration.retries = 1
        return client.ApiClient(configuration)

    def _ask(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        query: Sequence[tuple[str, str]] = (),
        content_type: str = "application/json",
        as_text: bool = False,
    ) -> Any:
        """The answer; None for 404."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "*/*" if as_text else "application/json", "Content-Type": content_type}
        try:
            response = self._client.call_api(
                path, method, query_params=list(query), header_params=headers, body=body,
                auth_settings=["BearerToken"], _preload_content=False, _return_http_data_only=True,
                _request_timeout=(_CONNECT_S, _READ_S),
            )  # fmt: skip
            return response.data.decode() if as_text else json.loads(response.data)
        except ApiException as refused:
            if refused.status == 404:
                return None
            raise self._told(refused, f"{method} {path}") from refused
        except (HTTPError, OSError, ValueError) as silent:
            raise Unavailable(f"Kubernetes does not answer at {self._client.configuration.host}: {silent}") from silent

    def _told(self, refused: Any, what: str) -> Exception:
        try:
            why = json.loads(refused.body)["message"]
        except (ValueError, KeyError, TypeError):
            why = refused.reason
        host = self._client.configuration.host
        match refused.status:
            case 401:
                return UsageError(
                    f"the cluster at {host} does not know who asks ({why}): is the kubeconfig still good?"
                )
            case 403:
                return UsageError(f"the cluster at {host} does not allow it: {why}; ask for that right")
            case 409:
                return Conflict(f"{what}: {why}")
            case 400 | 404 | 405 | 415 | 422:
                return UsageError(f"the cluster at {host} refuses {what}: {why}")
            case _:
                return Unavailable(f"the cluster at {host} can't: {what}: {why or refused.status}")


@cache
def _hush_forwarders() -> None:
    """A forward whose pod has gone dies in a thread of the library's: the socket tells it, stderr need not."""
    others = threading.excepthook

    def say(failed: threading.ExceptHookArgs) -> None:
        if failed.thread is None or not failed.thread.name.startswith("Kubernetes port forward"):
            others(failed)

    threading.excepthook = say


def _path(api: str, namespace: str, kind: str, name: str = "") -> str:
    return f"/{api}/namespaces/{quote(namespace)}/{kind}" + (f"/{quote(name)}" if name else "")
