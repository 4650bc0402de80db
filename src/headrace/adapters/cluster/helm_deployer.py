"""The Deployer port on Helm: one release a model version."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from headrace.adapters.cluster.helm import Helm
from headrace.adapters.cluster.kubernetes_api import APPS, MODEL_LABEL, VERSION_LABEL, Kubernetes, Object
from headrace.adapters.cluster.object_store import ObjectStore, Published
from headrace.adapters.cluster.pods import Diagnosis, is_available
from headrace.domain.lineage import ModelVersion, release_name
from headrace.errors import Unavailable, UsageError
from headrace.ports import Endpoint
from headrace.settings import Settings, variable

_PORT = 8080
_POLL_S = 0.2
_STOP_S = 60.0


class HelmDeployer:
    """Model services as Helm releases of charts/model-service, named like the release.

    Args:
        settings: says which image, namespace, bucket and Secrets.
        kubernetes: the cluster.
        store: gets the model directory, for the services to fetch.
        values: for the chart instead of those in the settings' file; what follows from the version is put above them.
    """

    def __init__(
        self,
        settings: Settings,
        kubernetes: Kubernetes,
        store: ObjectStore,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = settings
        self._kubernetes = kubernetes
        self._store = store
        self._values = values
        self._helm = Helm(kubernetes, settings.namespace, settings.root / "charts" / "model-service")

    def start(self, version: ModelVersion, directory: Path, timeout_s: float) -> Endpoint:
        """Publish the directory, install the release and wait until all its pods are ready. Idempotent.

        Raises:
            Unavailable: they stopped, or are not ready in time; the message says why, from events and logs, and the
                release is gone.
            UsageError: the cluster or the chart refuses it.
        """
        image = self._settings.required("serving_image")
        self._kubernetes.require_namespace(self._settings.namespace)
        published = self._store.publish(version, directory)
        self._helm.install(version.release, {**self._chosen(), **self._described(version, image, published)})
        problem = self._wait_until_ready(version, timeout_s)
        if problem is None:
            return self._endpoint(version.model, version.version, is_ready=True)
        self._helm.uninstall(version.release)
        self._wait_until_gone(version.model, version.version)
        raise Unavailable(f"{version.release} {problem}")

    def stop(self, model: str, version: int) -> None:
        """Remove a version's release; its pods answer what they have begun. Idempotent."""
        if self._deployment(release_name(model, version)) is not None:
            self._helm.uninstall(release_name(model, version))
            self._wait_until_gone(model, version)

    def running(self, model: str) -> Sequence[Endpoint]:
        """Every released version of a model, oldest first, and whether a pod of it takes requests."""
        found = self._kubernetes.list(APPS, self._settings.namespace, "deployments", {MODEL_LABEL: model})
        endpoints = [
            self._endpoint(
                model, int(one["metadata"]["labels"][VERSION_LABEL]), one["status"].get("availableReplicas", 0) > 0
            )
            for one in found
            if "deletionTimestamp" not in one["metadata"]
        ]
        return sorted(endpoints, key=lambda endpoint: endpoint.version)

    def _chosen(self) -> Mapping[str, Any]:
        """Values that the platform sets for all releases."""
        if self._values is not None or not self._settings.chart_values:
            return self._values or {}
        path = Path(self._settings.chart_values)
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as wrong:
            raise UsageError(f"{variable('chart_values')}: {path} can't be read: {wrong}") from wrong
        if not isinstance(found, dict):
            raise UsageError(f"{variable('chart_values')}: {path} holds no values: give KEY: VALUE lines")
        return found

    def _described(self, version: ModelVersion, image: str, published: Published) -> dict[str, Any]:
        settings = self._settings
        return {
            "model": version.model,
            "version": version.version,
            "image": image,
            "store": {
                "url": published.url,
                "digest": published.digest,
                "endpoint": settings.store_endpoint,
                "region": settings.store_region,
                "secret": settings.store_secret,
            },
            "predictionLog": settings.prediction_log,
            "onlineStore": {"secret": settings.online_store_secret},
        }

    def _endpoint(self, model: str, version: int, is_ready: bool) -> Endpoint:
        host = f"{release_name(model, version)}.{self._settings.namespace}.svc"
        return Endpoint(model, version, f"http://{host}:{_PORT}", is_ready)

    def _deployment(self, name: str) -> Object | None:
        return self._kubernetes.get(APPS, self._settings.namespace, "deployments", name)

    def _wait_until_ready(self, version: ModelVersion, timeout_s: float) -> str | None:
        """None once it is ready, else what went wrong."""
        labels = {MODEL_LABEL: version.model, VERSION_LABEL: str(version.version)}
        diagnosis = Diagnosis(self._kubernetes, self._settings.namespace, labels)
        deadline = time.monotonic() + timeout_s
        while True:
            deployment = self._deployment(version.release)
            if deployment is None:
                return "was removed while it started"
            if is_available(deployment):
                return None
            hopeless = diagnosis.hopeless(deployment)
            if hopeless is not None:
                return hopeless
            if time.monotonic() >= deadline:
                return f"is not ready within {timeout_s:g} s: {diagnosis.last_words()}"
            time.sleep(_POLL_S)

    def _wait_until_gone(self, model: str, version: int) -> None:
        """Its name can be used again then; pods that drain still have their own time."""
        deadline = time.monotonic() + _STOP_S
        while self._deployment(release_name(model, version)) is not None:
            if time.monotonic() >= deadline:
                raise Unavailable(f"{release_name(model, version)} is not gone {_STOP_S:g} s after its removal began")
            time.sleep(_POLL_S)
