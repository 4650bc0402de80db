"""The Kubernetes API for tests that need no cluster: objects, events and logs that a test gives."""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.adapters.cluster.kubernetes_api import Kubernetes

Object = dict[str, Any]


class FakeKubernetes(Kubernetes):
    """Lists what `objects` has by kind, and remembers what was deleted."""

    def __init__(self, **objects: Sequence[Object]) -> None:
        self.objects = {kind: list(given) for kind, given in objects.items()}
        self.told: dict[str, Sequence[Object]] = {}
        self.logs: dict[tuple[str, str, bool], str] = {}
        self.deleted: list[str] = []

    def list(self, api: str, namespace: str, kind: str, labels: Mapping[str, str] | None = None) -> Sequence[Object]:
        wanted = (labels or {}).items()
        return [one for one in self.objects.get(kind, []) if wanted <= one["metadata"].get("labels", {}).items()]

    def events(self, namespace: str, name: str) -> Sequence[Object]:
        return self.told.get(name, [])

    def log(self, namespace: str, pod: str, container: str, line_count: int, previous: bool = False) -> str:
        return self.logs.get((pod, container, previous), "")

    def delete(self, api: str, namespace: str, kind: str, name: str) -> None:
        self.deleted.append(name)
        self.objects[kind] = [one for one in self.objects[kind] if one["metadata"]["name"] != name]
