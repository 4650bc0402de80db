"""A model's route as Kubernetes objects for Traefik, and what Traefik says that it holds.

The weighted TraefikService is the one that decides: it has the weights, and beside them the record. All others follow
from the record, so whoever writes next can put them right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.adapters import route_record
from headrace.adapters.cluster.kubernetes_api import MODEL_LABEL, Object
from headrace.adapters.traefik_rules import (
    ANY,
    BODY_BYTES,
    CLEAN,
    LIMIT,
    PINNED,
    PINNED_ELSEWHERE,
    RETRY,
    SHADOW_TIMEOUTS,
    paths,
    pinned,
    pinned_elsewhere,
    request_header,
    roles,
    shadows,
    shared_middlewares,
    sticky,
)
from headrace.domain.lineage import kebab, release_name
from headrace.ports import Route
from headrace.telemetry import ROLE_HEADER

RECORD = "headrace.dev/route"
"""The annotation with the record."""
VERSIONS = "headrace.dev/versions"
"""The annotation with the versions that ran when it was written: those that requests can name."""
LABELS = {"app.kubernetes.io/part-of": "headrace", "app.kubernetes.io/component": "routing"}
# Not headrace-…: pods would find it in their environment as HEADRACE_…, which is for settings.
NOWHERE = "no-such-version"
_SHADOW_TRANSPORT = "headrace-shadow"
_NO_ROLE = "none"
_PORT = "http"


def shared(namespace: str) -> Sequence[tuple[str, Object]]:
    """What all models' routes refer to: plural kind and object."""
    middlewares = shared_middlewares()
    for role in ("stable", "canary", "previous", "shadow"):
        middlewares[_role(role)] = request_header(ROLE_HEADER, role)
    middlewares[_role(_NO_ROLE)] = request_header(ROLE_HEADER, "")
    made = [("middlewares", _object("Middleware", namespace, name, spec)) for name, spec in middlewares.items()]
    transport = {"forwardingTimeouts": SHADOW_TIMEOUTS}
    return [*made, ("serverstransports", _object("ServersTransport", namespace, _SHADOW_TRANSPORT, transport))]


def nowhere(namespace: str) -> Object:
    """A Service without pods, for requests that name a version which does not run: 503."""
    spec = {"ports": [{"name": _PORT, "port": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(namespace, NOWHERE), "spec": spec}


def weighted(route: Route, namespace: str, versions: Sequence[int]) -> Object:
    """The object that decides, with the record."""
    as_what = roles(route.split)
    # A mirror in front takes the body, so that only what stands behind it can try again.
    retry = [RETRY] if route.split.shadow is not None else []
    services = [
        {**_release(route.model, version, [*retry, _role(as_what.get(version, _NO_ROLE))]), "weight": pct}
        for version, pct in sorted(route.split.weights.items())
    ]
    spec: Object = {"weighted": {"services": services}}
    if route.split.sticky:
        spec["weighted"]["sticky"] = sticky(route.model)
    made = _object("TraefikService", namespace, kebab(route.model), spec, route.model)
    told = ",".join(str(version) for version in sorted(versions))
    made["metadata"]["annotations"] = {RECORD: route_record.dump(route), VERSIONS: told}
    return made


def derived(route: Route, namespace: str, versions: Sequence[int]) -> Sequence[tuple[str, Object]]:
    """The objects that follow from it, in the order in which they are written: plural kind and object."""
    return [
        ("traefikservices", _mirrored(route, namespace)),
        ("ingressroutes", _ingress_route(route, namespace, versions)),
    ]


def _mirrored(route: Route, namespace: str) -> Object:
    mirrors = [
        {**_release(route.model, version, [_role("shadow")]), "percent": pct, "serversTransport": _SHADOW_TRANSPORT}
        for version, pct in shadows(route.split).items()
    ]
    main = {"name": kebab(route.model), "kind": "TraefikService"}
    spec = {"mirroring": {**main, "maxBodySize": BODY_BYTES, "mirrors": mirrors}}
    return _object("TraefikService", namespace, f"{kebab(route.model)}-mirrored", spec, route.model)


def _ingress_route(route: Route, namespace: str, versions: Sequence[int]) -> Object:
    model, name, as_what = route.model, kebab(route.model), roles(route.split)
    is_mirrored = route.split.shadow is not None
    main = {"name": f"{name}-mirrored" if is_mirrored else name, "kind": "TraefikService"}
    routes = [
        _route(paths(model), ANY, main, [CLEAN, LIMIT] if is_mirrored else [CLEAN, LIMIT, RETRY]),
        _route(pinned_elsewhere(model), PINNED_ELSEWHERE, {"name": NOWHERE, "port": _PORT}, [CLEAN, LIMIT]),
    ]
    for version in sorted(versions):
        service = _release(model, version, [_role(as_what.get(version, _NO_ROLE))])
        routes.append(_route(pinned(model, version), PINNED, service, [CLEAN, LIMIT, RETRY]))
    return _object("IngressRoute", namespace, name, {"entryPoints": ["web"], "routes": routes}, model)


def _route(rule: str, priority: int, service: Object, middlewares: Sequence[str]) -> Object:
    named = [{"name": name} for name in middlewares]
    return {"kind": "Rule", "match": rule, "priority": priority, "services": [service], "middlewares": named}


def _release(model: str, version: int, middlewares: Sequence[str]) -> Object:
    named = [{"name": name} for name in middlewares]
    return {"name": release_name(model, version), "port": _PORT, "passHostHeader": False, "middlewares": named}


def _role(role: str) -> str:
    return f"headrace-role-{role}"


def _object(kind: str, namespace: str, name: str, spec: Object, model: str = "") -> Object:
    metadata = _metadata(namespace, name)
    if model:
        metadata["labels"] = {**LABELS, MODEL_LABEL: model}
    return {"apiVersion": "traefik.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _metadata(namespace: str, name: str) -> Object:
    return {"name": name, "namespace": namespace, "labels": dict(LABELS)}


@dataclass(frozen=True)
class Held:
    """What Traefik has of a model; all empty without a route.

    Attributes:
        weights: version to percent.
        shadows: version to percent of the requests that it gets copies of.
        versions: those that requests can name.
        sticky: whether clients that keep cookies stay with a version.
    """

    weights: Mapping[int, int] = field(default_factory=dict)
    shadows: Mapping[int, int] = field(default_factory=dict)
    versions: frozenset[int] = frozenset()
    sticky: bool = False


def wanted(route: Route, versions: Sequence[int]) -> Held:
    """What Traefik has to have."""
    return Held(route.split.weights, shadows(route.split), frozenset(versions), route.split.sticky)


def held(raw: Mapping[str, Any], namespace: str, model: str) -> Held:
    """What the answer of Traefik's ``/api/rawdata`` says about a model."""
    services = raw.get("services") or {}
    own = [one for name, one in (raw.get("routers") or {}).items() if name.startswith(f"{namespace}-{kebab(model)}-")]
    by_priority = {one.get("priority"): one for one in own if one.get("status") == "enabled" and _is_of(one, model)}
    prefix = f"{namespace}-{kebab(model)}"
    split = services.get(f"{prefix}@kubernetescrd", {})
    main = by_priority.get(ANY)
    if main is None or split.get("status") != "enabled":
        return Held()
    try:
        weights = {_version(one["name"], prefix): one.get("weight", 1) for one in split["weighted"]["services"]}
        mirrored = services.get(f"{prefix}-mirrored@kubernetescrd", {})
        is_mirrored = str(main["service"]).split("@")[0] == f"{prefix}-mirrored"
        if is_mirrored and mirrored.get("status") != "enabled":
            return Held()
        mirrors = (mirrored["mirroring"].get("mirrors") or []) if is_mirrored else []
        return Held(
            weights,
            {_version(one["name"], prefix): int(one.get("percent", 0)) for one in mirrors},
            frozenset(version for one in own if (version := _pinned_version(one, model)) is not None),
            "sticky" in split["weighted"],
        )
    except (KeyError, TypeError, ValueError):
        return Held()


def _is_of(router: Mapping[str, Any], model: str) -> bool:
    return str(router.get("rule", "")).startswith(paths(model))


def _pinned_version(router: Mapping[str, Any], model: str) -> int | None:
    if router.get("priority") != PINNED or router.get("status") != "enabled" or not _is_of(router, model):
        return None
    return int(str(router["rule"]).rsplit("`", 2)[1])


def _version(name: str, prefix: str) -> int:
    """Of a release, in Traefik's name for its Service."""
    return int(name.split("@", maxsplit=1)[0].removeprefix(f"{prefix}-v").removesuffix(f"-{_PORT}"))


def differs(live: Any, rendered: Any) -> bool:
    """Whether an object lacks something that it was written with; what the cluster adds does not count."""
    if isinstance(rendered, Mapping):
        if not isinstance(live, Mapping):
            return bool(rendered)
        return any(differs(live.get(key), value) for key, value in rendered.items())
    if isinstance(rendered, list):
        same_length = isinstance(live, list) and len(live) == len(rendered)
        return not same_length or any(differs(one, other) for one, other in zip(live, rendered, strict=True))
    # The cluster leaves empty texts and false out where they are the default.
    return bool(live != rendered and not (live is None and (rendered == "" or rendered is False)))
