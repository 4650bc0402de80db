"""The Router port on Traefik's custom resources."""

import json
import re
import time
from collections.abc import Callable, Sequence

from headrace.adapters import route_record
from headrace.adapters.cluster import traefik_objects
from headrace.adapters.cluster.kubernetes_api import CORE, MODEL_LABEL, TRAEFIK, Kubernetes, Object
from headrace.adapters.cluster.reach import Pod, Reach
from headrace.adapters.cluster.traefik_objects import Held
from headrace.adapters.traefik_rules import require_running, told, unwritten_since
from headrace.domain.lineage import kebab
from headrace.domain.rollout import RolloutState
from headrace.domain.split import Split, describe
from headrace.errors import Unavailable, UsageError
from headrace.ports import Endpoint, Route
from headrace.settings import Settings

_MODEL = re.compile(r"[a-z][a-z0-9_]*")
# What Traefik calls another model's mirror or release: `flight_mirrored` beside `flight`.
_TAKEN = re.compile(r".*(_mirrored|_v[0-9]+_http)")
_SERVICES = "traefikservices"
# Where Traefik tells its configuration, on its pod's loopback.
_API_PORT = 8082
_POLL_S = 0.1
_ASK_S = 5.0


class CustomResourceRouter:
    """One TraefikService a model has its weights and the record: compared and swapped by its resourceVersion.

    Args:
        settings: says in which namespace, and which Traefik.
        kubernetes: the cluster.
        reach: asks Traefik's pods what they hold.
        running: the versions of a model that run.
        timeout_s: how long all pods of Traefik may take to hold what was written.
    """

    def __init__(
        self,
        settings: Settings,
        kubernetes: Kubernetes,
        reach: Reach,
        running: Callable[[str], Sequence[Endpoint]],
        timeout_s: float = 15.0,
    ) -> None:
        self._namespace = settings.namespace
        self._proxy = tuple(settings.proxy_service.split("/"))
        self._proxy_url = settings.proxy_url
        self._kubernetes = kubernetes
        self._reach = reach
        self._running = running
        self._timeout_s = timeout_s

    def read(self, model: str) -> Route | None:
        """What was last written by `write`; None when the model has no route yet.

        Raises:
            IntegrityError: the record is not one that `write` made, or a newer Headrace's.
        """
        live = self._live(model)
        return None if live is None else self._route(live, model)

    def write(self, model: str, split: Split, seen: int, note: str, rollout: RolloutState | None = None) -> Route:
        """Replace the split, and wait until every pod of Traefik holds it. Also puts right what was changed by hand.

        Raises:
            Conflict: the generation is no longer `seen`; nothing was changed.
            Unavailable: Traefik is silent or a version does not run, and nothing was changed; or it does not take the
                write over in time, and the message says what it holds: then `read` gives the new route.
        """
        live = self._live(model)
        generation = unwritten_since(model, self._route(live, model) if live is not None else None, seen)
        versions = self._versions(model, split)
        self._pods()
        route = Route(model, split, generation + 1, note, rollout)
        self._put_shared_right()
        self._swap(live, traefik_objects.weighted(route, self._namespace, versions))
        for kind, one in traefik_objects.derived(route, self._namespace, versions):
            self._kubernetes.apply(TRAEFIK, self._namespace, kind, one)
        self._wait_until_held(route, traefik_objects.wanted(route, versions))
        return route

    def models(self) -> Sequence[str]:
        """The models that have a route, by name."""
        found = self._kubernetes.list(TRAEFIK, self._namespace, _SERVICES, traefik_objects.LABELS)
        recorded = [one for one in found if traefik_objects.RECORD in one["metadata"].get("annotations", {})]
        return sorted(one["metadata"]["labels"][MODEL_LABEL] for one in recorded)

    def url(self, model: str) -> str:
        """Where clients reach all models, without a path."""
        return self._proxy_url

    def drifted(self, model: str) -> str | None:
        """What differs between the record and the objects or Traefik, in a sentence; None when nothing does.

        Raises:
            IntegrityError: the record itself can't be read.
        """
        found = self._drift(model)
        if found is None:
            return None
        # A write that is under way is no edit by hand: what differs has to differ still a moment later.
        before = self._live(model)
        time.sleep(_POLL_S * 5)
        after = self._live(model)
        is_written = before is not None and after is not None and _version(before) != _version(after)
        return None if is_written else self._drift(model)

    def _drift(self, model: str) -> str | None:
        live = self._live(model)
        if live is None:
            return None
        route = self._route(live, model)
        versions = _annotated_versions(live)
        good = traefik_objects.weighted(route, self._namespace, versions)
        if traefik_objects.differs(live["spec"], good["spec"]):
            return (
                f"TraefikService {good['metadata']['name']} was changed by hand: {describe(route.split)} was recorded"
            )
        for kind, one in traefik_objects.derived(route, self._namespace, versions):
            found = self._kubernetes.get(TRAEFIK, self._namespace, kind, one["metadata"]["name"])
            if found is None or traefik_objects.differs(found["spec"], one["spec"]):
                how = "is gone" if found is None else "was changed by hand"
                return f"{one['kind']} {one['metadata']['name']} {how}: it is not what was written"
        expected = traefik_objects.wanted(route, versions)
        for pod in self._pods():
            held = self._held(pod, model)
            # What can be named is less, where a version has been stopped since.
            if held is not None and (held.weights, held.shadows) != (expected.weights, expected.shadows):
                return f"Traefik ({pod.name}) holds {told(held.weights, held.shadows)}, not {describe(route.split)}"
        return None

    def _live(self, model: str) -> Object | None:
        if not _MODEL.fullmatch(model):
            raise UsageError(f"{model!r} is not the name of a model: it is in snake_case")
        if _TAKEN.fullmatch(model):
            raise UsageError(f"{model!r} can't be routed in a cluster: names with that end are the router's; rename it")
        return self._kubernetes.get(TRAEFIK, self._namespace, _SERVICES, kebab(model))

    def _route(self, live: Object, model: str) -> Route:
        where = f"TraefikService {live['metadata']['name']} in {self._namespace}"
        record = live["metadata"].get("annotations", {}).get(traefik_objects.RECORD)
        if record is None:
            raise route_record.unreadable(where, f"it has no annotation {traefik_objects.RECORD}")
        return route_record.load(record, where, model)

    def _versions(self, model: str, split: Split) -> Sequence[int]:
        versions = sorted(endpoint.version for endpoint in self._running(model))
        require_running(model, split, versions)
        return versions

    def _put_shared_right(self) -> None:
        wanted = traefik_objects.shared(self._namespace)
        live: dict[tuple[str, str], Object] = {}
        for kind in {kind for kind, _ in wanted}:
            found = self._kubernetes.list(TRAEFIK, self._namespace, kind, traefik_objects.LABELS)
            live |= {(kind, one["metadata"]["name"]): one for one in found}
        for kind, one in wanted:
            has = live.get((kind, one["metadata"]["name"]))
            if has is None or traefik_objects.differs(has["spec"], one["spec"]):
                self._kubernetes.apply(TRAEFIK, self._namespace, kind, one)
        if self._kubernetes.get(CORE, self._namespace, "services", traefik_objects.NOWHERE) is None:
            self._kubernetes.apply(CORE, self._namespace, "services", traefik_objects.nowhere(self._namespace))

    def _swap(self, live: Object | None, new: Object) -> None:
        if live is None:
            self._kubernetes.create(TRAEFIK, self._namespace, _SERVICES, new)
            return
        new["metadata"]["resourceVersion"] = _version(live)
        self._kubernetes.replace(TRAEFIK, self._namespace, _SERVICES, new)

    def _pods(self) -> Sequence[Pod]:
        """The pods of Traefik. Raises Unavailable when none is ready."""
        namespace, service = self._proxy
        pods = [Pod(pod.namespace, pod.name, _API_PORT) for pod in self._reach.behind(namespace, service, 80)]
        if not pods:
            raise Unavailable(
                f"Traefik does not answer: Service {service} in namespace {namespace} (HEADRACE_PROXY_SERVICE) "
                "has no ready pod; nothing was changed"
            )
        return pods

    def _held(self, pod: Pod, model: str) -> Held | None:
        answer = self._reach.ask_pod(pod, "/api/rawdata", _ASK_S)
        if answer is None or answer.status != 200:
            return None
        try:
            return traefik_objects.held(json.loads(answer.body), self._namespace, model)
        except ValueError:
            return None

    def _wait_until_held(self, route: Route, wanted: Held) -> None:
        deadline = time.monotonic() + self._timeout_s
        for pod in self._pods():
            while (held := self._held(pod, route.model)) != wanted:
                if time.monotonic() >= deadline:
                    silent = f"nothing, its API does not answer on port {_API_PORT} of its loopback"
                    now = told(held.weights, held.shadows) if held else silent
                    what = told(wanted.weights, wanted.shadows)
                    raise Unavailable(
                        f"Traefik ({pod.name}) does not hold {what} of {route.model} within "
                        f"{self._timeout_s:g} s but {now}; does it watch the namespace {self._namespace}, with "
                        "allowEmptyServices? Its log says more"
                    )
                time.sleep(_POLL_S)


def _annotated_versions(live: Object) -> Sequence[int]:
    told = live["metadata"].get("annotations", {}).get(traefik_objects.VERSIONS, "")
    return [int(version) for version in told.split(",") if version.isdecimal()]


def _version(live: Object) -> str:
    return str(live["metadata"]["resourceVersion"])
