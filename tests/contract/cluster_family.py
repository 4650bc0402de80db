"""The cluster family on a real Kubernetes, with the stand-in for the model service."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.cluster import traefik_objects
from headrace.adapters.cluster.helm_deployer import HelmDeployer
from headrace.adapters.cluster.kubernetes_api import APPS, MODEL_LABEL, TRAEFIK, VERSION_LABEL, Kubernetes
from headrace.adapters.cluster.object_store import ObjectStore
from headrace.adapters.cluster.prometheus_metrics import PrometheusMetrics
from headrace.adapters.cluster.reach import Pod, Reach
from headrace.adapters.cluster.traefik_router import CustomResourceRouter
from headrace.domain.evidence import Counts
from headrace.domain.lineage import kebab
from headrace.ports import Endpoint, Recent
from headrace.settings import Settings
from tests.cluster.node import toolchain
from tests.cluster.platform.fixtures import Platform, load_images
from tests.fakes import model_version

MODEL = "flight_delay"
_SCRAPED_S = 30.0


class Cluster:
    """A namespace with a platform around it, whose releases and routes of one test go with it."""

    def __init__(self, settings: Settings, values: Mapping[str, Any]) -> None:
        self.settings = settings
        self.kubernetes = Kubernetes()
        self.reach = Reach(self.kubernetes, settings.namespace)
        self.deployer = HelmDeployer(
            settings, self.kubernetes, ObjectStore(settings.store, settings.store_reached_at), values
        )
        self.router = CustomResourceRouter(settings, self.kubernetes, self.reach, self.deployer.running)
        self.metrics = PrometheusMetrics(settings.prometheus_url, settings.namespace, self.reach)

    def pods(self, model: str, version: int) -> Sequence[Pod]:
        """The ready pods of a version."""
        labels = {MODEL_LABEL: model, VERSION_LABEL: str(version)}
        found = self.reach.ready(self.settings.namespace, labels)
        return [Pod(self.settings.namespace, pod["metadata"]["name"], 8080) for pod in found]

    def switch(self, model: str, version: int, name: str, text: str | None = "") -> None:
        """Turn a switch of the stand-in on, or with None off, in all its pods."""
        for pod in self.pods(model, version):
            method, body = ("DELETE", None) if text is None else ("PUT", text.encode())
            answer = self.reach.ask_pod(pod, f"/switch/{name}", 10.0, method, body)
            assert answer is not None
            assert answer.status == 200

    def clear(self) -> None:
        """Remove all releases and routes."""
        namespace = self.settings.namespace
        for kind in ("ingressroutes", "traefikservices"):
            for one in self.kubernetes.list(TRAEFIK, namespace, kind, traefik_objects.LABELS):
                self.kubernetes.delete(TRAEFIK, namespace, kind, one["metadata"]["name"])
        for one in self.kubernetes.list(APPS, namespace, "deployments", {"app.kubernetes.io/name": "model-service"}):
            labels = one["metadata"]["labels"]
            self.deployer.stop(labels[MODEL_LABEL], int(labels[VERSION_LABEL]))


class ClusterRoutes:
    """Traefik in the cluster before stand-ins; its versions run on from test to test."""

    def __init__(self, cluster: Cluster, make: Callable[..., Path]) -> None:
        self._cluster, self._make = cluster, make
        self._ran: set[tuple[str, int]] = set()
        self.router = CustomResourceRouter(cluster.settings, cluster.kubernetes, cluster.reach, self._running)

    def run(self, *versions: int, model: str = MODEL) -> None:
        ready = {one.version for one in self._cluster.deployer.running(model) if one.ready}
        for version in versions:
            self._ran.add((model, version))
            if version not in ready:
                self._cluster.deployer.start(model_version(version, model), self._make(version, model), timeout_s=120)

    def _running(self, model: str) -> Sequence[Endpoint]:
        """As if nothing ran but what this test asked for."""
        return [one for one in self._cluster.deployer.running(model) if (model, one.version) in self._ran]

    def edit(self) -> None:
        """Turn the weights of a split of 90 and 10 % into halves."""
        namespace, name = self._cluster.settings.namespace, kebab(MODEL)
        live = self._cluster.kubernetes.get(TRAEFIK, namespace, "traefikservices", name)
        assert live is not None
        for service in live["spec"]["weighted"]["services"]:
            service["weight"] = 50
        self._cluster.kubernetes.replace(TRAEFIK, namespace, "traefikservices", live)


class _Renamed:
    """A source that is asked for the suite's model and looks for another, whose series nobody else has written."""

    def __init__(self, source: PrometheusMetrics, model: str) -> None:
        self._source, self._model = source, model

    def counts(self, model: str) -> Mapping[int, Counts]:
        return self._source.counts(self._model if model == MODEL else model)

    def recent(self, model: str) -> Mapping[int, Recent]:
        return self._source.recent(self._model if model == MODEL else model)


class ClusterMetrics:
    """Prometheus in the cluster, scraping stand-ins."""

    def __init__(self, cluster: Cluster, make: Callable[..., Path]) -> None:
        self._cluster, self._make = cluster, make
        self._model = f"m{uuid.uuid4().hex[:10]}"
        self.source = _Renamed(cluster.metrics, self._model)
        self._silent: set[int] = set()
        self._served: set[int] = set()

    def serve(self, version: int) -> None:
        directory = self._make(version, self._model)
        self._cluster.deployer.start(model_version(version, self._model), directory, timeout_s=120)
        self._served.add(version)
        self._wait_until_scraped()

    def answer(self, version: int, count: int, status: int) -> None:
        self._cluster.switch(self._model, version, "fails", None if status == 200 else str(status))
        (pod,) = self._cluster.pods(self._model, version)
        for _ in range(count):
            answer = self._cluster.reach.ask_pod(pod, f"/v1/models/{self._model}/predict", 10.0, "POST", b"{}")
            assert answer is not None
            assert answer.status == status
        self._wait_until_scraped()

    def predict(self, version: int, rows: int, non_finite: int, impossible: int, fallbacks: int) -> None:
        from tests.contract.test_metrics_source import counts_text

        self._cluster.switch(self._model, version, "counts", counts_text(rows, non_finite, impossible, fallbacks))
        self._wait_until_scraped()

    def tell(self, version: int, scores: Mapping[str, float]) -> None:
        said = {"version": version, "rows": [*scores], "scores": [*scores.values()], "probes": [False] * len(scores)}
        self._cluster.switch(self._model, version, "recent", json.dumps(said))

    def silence(self, version: int) -> None:
        self._cluster.switch(self._model, version, "no_metrics")
        self._silent.add(version)
        self._wait_until_scraped()

    def _wait_until_scraped(self) -> None:
        """All that is served was asked by Prometheus since now."""
        began = time.time()
        pods = {pod.name for version in self._served for pod in self._cluster.pods(self._model, version)}
        while True:
            last = self._scraped_at()
            if all(last.get(name, 0.0) > began for name in pods):
                return
            assert time.time() < began + _SCRAPED_S, f"not scraped within {_SCRAPED_S} s: {pods}, {last}"
            time.sleep(0.2)

    def _scraped_at(self) -> dict[str, float]:
        query = f'max by (pod) (timestamp(up{{namespace="{self._cluster.settings.namespace}"}}))'
        return {one.labels["pod"]: one.value for one in self._cluster.metrics._query(query)}


@pytest.fixture(scope="session")
def cluster_session(platform: Platform) -> Iterator[Cluster]:
    """The platform's namespace, for a whole session.

    The platform gives the environment of who deploys: HEADRACE_… and AWS_… variables and KUBECONFIG.
    """
    load_images(platform.kubectl, ("serving", "stand-in"))
    before = dict(os.environ)
    os.environ.update({**platform.environment, "PATH": toolchain.path()})
    try:
        from headrace import settings as environment

        settings = replace(environment.read(context="cluster"), serving_image="localhost/headrace/stand-in:test")
        cluster = Cluster(settings, {"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}})
        cluster.clear()
        yield cluster
        cluster.clear()
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def cluster_routes(cluster_session: Cluster, model_directory: Callable[..., Path]) -> Iterator[ClusterRoutes]:
    """Without a route yet."""
    harness = ClusterRoutes(cluster_session, model_directory)
    yield harness
    for kind in ("ingressroutes", "traefikservices"):
        namespace = cluster_session.settings.namespace
        for one in cluster_session.kubernetes.list(TRAEFIK, namespace, kind, traefik_objects.LABELS):
            cluster_session.kubernetes.delete(TRAEFIK, namespace, kind, one["metadata"]["name"])


@pytest.fixture
def cluster_deployer(cluster_session: Cluster) -> Iterator[HelmDeployer]:
    """With nothing deployed yet."""
    cluster_session.clear()
    yield cluster_session.deployer
    cluster_session.clear()


@pytest.fixture
def cluster_metrics(cluster_session: Cluster, model_directory: Callable[..., Path]) -> Iterator[ClusterMetrics]:
    """Of a model of its own."""
    yield ClusterMetrics(cluster_session, model_directory)
    cluster_session.clear()
