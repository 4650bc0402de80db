"""Requests to a real HTTP server that answers as the Kubernetes API does, and as it does not."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from headrace.adapters.cluster import kubernetes_api
from headrace.adapters.cluster.kubernetes_api import APPS, CORE, TRAEFIK, Kubernetes
from headrace.errors import Conflict, HeadraceError, Unavailable, UsageError
from tests.conftest import free_ports

NAMESPACE, TOKEN = "headrace", "a-token-of-the-test"
BODY = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "resourceVersion": "7"}}


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


class Api:
    """Answers everything with `status` and `body`; with None it hangs up."""

    def __init__(self) -> None:
        self.status, self.body = 200, json.dumps({"items": []})
        self.is_there = True
        self.asked: list[Asked] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length)) if length else None
                url = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                api.asked.append(Asked(self.command, url.path, parse_qs(url.query), headers, body))
                if not api.is_there:
                    self.close_connection = True
                    return
                told = api.body.encode()
                self.send_response(api.status)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def refuse(self, status: int, message: str = "") -> None:
        self.status = status
        self.body = json.dumps({"kind": "Status", "message": message, "code": status}) if message else "<html>"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """One that KUBECONFIG names."""
    one = Api()
    thread = Thread(target=one.server.serve_forever, args=(0.02,))
    thread.start()
    name_it(one.url, tmp_path / "kubeconfig", monkeypatch)
    yield one
    one.server.shutdown()
    one.server.server_close()
    thread.join()


def name_it(url: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
    }
    file.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(file))


def test_who_asks_is_said_with_every_request(api: Api):
    Kubernetes().list(CORE, NAMESPACE, "pods", {"a": "1", "b": "2"})
    (asked,) = api.asked
    assert (asked.method, asked.path) == ("GET", "/api/v1/namespaces/headrace/pods")
    assert asked.query == {"labelSelector": ["a=1,b=2"]}
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"


def test_what_is_not_there_is_none_and_nothing(api: Api):
    api.refuse(404, "not found")
    kubernetes = Kubernetes()
    assert kubernetes.get(APPS, NAMESPACE, "deployments", "x") is None
    assert kubernetes.list(TRAEFIK, NAMESPACE, "ingressroutes") == []
    assert kubernetes.events(NAMESPACE, "x") == []
    assert kubernetes.log(NAMESPACE, "p", "c", 5) == ""
    kubernetes.delete(CORE, NAMESPACE, "services", "x")


def test_writes_to_what_is_not_there_say_so(api: Api):
    api.refuse(404, "not found")
    kubernetes = Kubernetes()
    with pytest.raises(Conflict, match="services/x in headrace is gone"):
        kubernetes.replace(CORE, NAMESPACE, "services", BODY)
    for write in (kubernetes.create, kubernetes.apply):
        with pytest.raises(UsageError, match=f"the namespace headrace or the kind is not there.*{api.url}"):
            write(CORE, NAMESPACE, "services", BODY)


def test_namespace_that_is_not_there_is_said_and_who_may_not_look_is_let_through(api: Api):
    api.refuse(404, "not found")
    with pytest.raises(UsageError, match=r"there is no namespace headrace in the cluster.*HEADRACE_NAMESPACE"):
        Kubernetes().require_namespace(NAMESPACE)
    api.refuse(403, "forbidden")
    Kubernetes().require_namespace(NAMESPACE)


def test_writes_are_compared_by_version_or_applied_by_force(api: Api):
    api.body = json.dumps(BODY)
    kubernetes = Kubernetes()
    kubernetes.replace(CORE, NAMESPACE, "services", BODY)
    kubernetes.apply(CORE, NAMESPACE, "services", BODY)
    put, patch = api.asked
    assert (put.method, put.path, put.body) == ("PUT", "/api/v1/namespaces/headrace/services/x", BODY)
    assert (patch.method, patch.body) == ("PATCH", BODY)
    assert patch.headers["content-type"] == "application/apply-patch+yaml"
    assert patch.query == {"fieldManager": ["headrace"], "force": ["true"]}


def test_events_are_oldest_first(api: Api):
    told = [{"lastTimestamp": "2026-01-02T00:00:00Z"}, {"lastTimestamp": None, "eventTime": "2026-01-01T00:00:00Z"}]
    api.body = json.dumps({"items": told})
    assert Kubernetes().events(NAMESPACE, "x") == told[::-1]
    assert api.asked[0].query == {"fieldSelector": ["involvedObject.name=x"]}


def test_log_is_text_and_that_of_a_container_which_has_not_begun_is_empty(api: Api):
    api.body = "näher\n{}\n"
    assert Kubernetes().log(NAMESPACE, "p", "c", 5, previous=True) == "näher\n{}\n"
    assert api.asked[0].query == {"container": ["c"], "tailLines": ["5"], "previous": ["true"]}
    api.refuse(400, 'container "c" in pod "p" is waiting to start')
    assert Kubernetes().log(NAMESPACE, "p", "c", 5) == ""


@pytest.mark.parametrize(
    ("status", "kind", "sentence"),
    [
        (401, UsageError, r"does not know who asks \(because\): is the kubeconfig still good\?"),
        (403, UsageError, "does not allow it: because; ask for that right"),
        (409, Conflict, "services: because"),
        (400, UsageError, "refuses POST .*services: because"),
        (422, UsageError, "refuses POST .*services: because"),
        (429, Unavailable, "can't: POST .*services: because"),
        (500, Unavailable, "can't: POST .*services: because"),
        (503, Unavailable, "can't: POST .*services: because"),
    ],
)
def test_refusal_is_told_by_its_kind_in_the_clusters_words(
    api: Api, status: int, kind: type[HeadraceError], sentence: str
):
    api.refuse(status, "because")
    with pytest.raises(HeadraceError, match=sentence) as told:
        Kubernetes().create(CORE, NAMESPACE, "services", BODY)
    assert type(told.value) is kind
    assert TOKEN not in str(told.value)


@pytest.mark.parametrize(("status", "kind"), [(403, UsageError), (502, Unavailable)])
def test_refusal_that_is_not_the_clusters_own_is_told_with_its_status(api: Api, status: int, kind: type[HeadraceError]):
    api.refuse(status)
    with pytest.raises(kind, match=r"Forbidden|Bad Gateway"):
        Kubernetes().list(CORE, NAMESPACE, "pods")


@pytest.mark.parametrize("body", ["<html>Sign in</html>", '{"items": [', ""])
def test_answer_that_is_no_json_is_no_answer(api: Api, body: str):
    api.body = body
    with pytest.raises(Unavailable, match=f"Kubernetes does not answer at {api.url}"):
        Kubernetes().list(CORE, NAMESPACE, "pods")


@pytest.mark.parametrize("body", ["[]", '"text"', '{"items": null}', "{}"])
def test_list_that_is_none_is_no_answer(api: Api, body: str):
    api.body = body
    with pytest.raises(Unavailable, match=f"{api.url}"):
        Kubernetes().list(CORE, NAMESPACE, "pods")


def test_cluster_that_hangs_up_is_unavailable(api: Api):
    api.is_there = False
    with pytest.raises(Unavailable, match=f"Kubernetes does not answer at {api.url}"):
        Kubernetes().get(CORE, NAMESPACE, "pods", "p")


def test_cluster_that_refuses_the_connection_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (port,) = free_ports(1)
    name_it(f"http://127.0.0.1:{port}", tmp_path / "kubeconfig", monkeypatch)
    with pytest.raises(Unavailable, match=f"Kubernetes does not answer at http://127.0.0.1:{port}"):
        Kubernetes().list(CORE, NAMESPACE, "pods")
    with pytest.raises(Unavailable, match=r"p in headrace, port 8080: .*refused"):
        Kubernetes().forward(NAMESPACE, "p", 8080)


def test_forward_that_is_not_allowed_is_told(api: Api):
    api.refuse(403, "pods/portforward is forbidden")
    with pytest.raises(UsageError, match="does not allow it: pods/portforward is forbidden; ask for that right"):
        Kubernetes().forward(NAMESPACE, "p", 8080)


@pytest.mark.parametrize(("status", "why"), [(404, 'pods "p" not found'), (400, "pod is not running"), (500, "broken")])
def test_forward_to_a_pod_that_has_gone_is_unavailable(api: Api, status: int, why: str):
    api.refuse(status, why)
    with pytest.raises(Unavailable, match=f"p in headrace, port 8080: {why}"):
        Kubernetes().forward(NAMESPACE, "p", 8080)


def test_forward_without_a_cluster_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no Kubernetes cluster"):
        Kubernetes().forward(NAMESPACE, "p", 8080)


@pytest.mark.parametrize("text", [None, "", "apiVersion: [", "apiVersion: v1\nkind: Config\ncurrent-context: gone\n"])
def test_kubeconfig_that_is_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None):
    file = tmp_path / "kubeconfig"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(file))
    assert not kubernetes_api._SERVICE_ACCOUNT.exists()
    with pytest.raises(UsageError, match=r"(?s)no Kubernetes cluster: .*name its kubeconfig in KUBECONFIG"):
        Kubernetes().list(CORE, NAMESPACE, "pods")
