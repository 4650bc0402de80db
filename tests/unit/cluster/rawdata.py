"""What Traefik 3.7 tells at ``/api/rawdata`` of objects that it was given: names, forms and states are its own."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.adapters.cluster import traefik_objects
from headrace.ports import Route

NAMESPACE = "headrace"


def of(*routes: tuple[Route, Sequence[int]]) -> dict[str, Any]:
    """A document with these routes, each with the versions that run."""
    raw: dict[str, Any] = {"routers": {}, "services": {}, "middlewares": {}}
    for route, versions in routes:
        objects = [traefik_objects.weighted(route, NAMESPACE, versions)]
        objects += [one for _, one in traefik_objects.derived(route, NAMESPACE, versions)]
        for one in copy.deepcopy(objects):
            _add(raw, one)
    return raw


def _add(raw: dict[str, Any], one: Mapping[str, Any]) -> None:
    name, spec = one["metadata"]["name"], one["spec"]
    match spec:
        case {"weighted": weighted}:
            told = [{"name": _used(raw, each), "weight": each["weight"]} for each in weighted["services"]]
            body: dict[str, Any] = {"services": told}
            if "sticky" in weighted:
                body["sticky"] = weighted["sticky"]
            raw["services"][_name(name)] = {"weighted": body, "status": "enabled"}
        case {"mirroring": mirroring}:
            mirrors = [{"name": _used(raw, each), "percent": each["percent"]} for each in mirroring["mirrors"]]
            body = {"service": _name(mirroring["name"]).split("@")[0], "maxBodySize": mirroring["maxBodySize"]}
            # An empty list is left out.
            body |= {"mirrors": mirrors} if mirrors else {}
            raw["services"][_name(name)] = {"mirroring": body, "status": "enabled"}
        case {"routes": routes}:
            for each in routes:
                key = hashlib.sha256(each["match"].encode()).hexdigest()[:20]
                raw["routers"][_name(f"{name}-{key}")] = {
                    "entryPoints": ["web"],
                    "service": _used(raw, each["services"][0]),
                    "rule": each["match"],
                    "priority": each["priority"],
                    "status": "enabled",
                }


def _used(raw: dict[str, Any], service: Mapping[str, Any]) -> str:
    """The name by which another object refers to a service; a Service of Kubernetes is there once it is used."""
    if service.get("kind") == "TraefikService":
        return _name(service["name"]).split("@")[0]
    name = f"{service['name']}-{service['port']}"
    raw["services"].setdefault(_name(name), {"loadBalancer": {"servers": []}, "status": "enabled"})
    return _name(name).split("@")[0]


def _name(name: str) -> str:
    return f"{NAMESPACE}-{name}@kubernetescrd"
