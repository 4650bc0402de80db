"""A model's route as a file for Traefik, and what Traefik says that it holds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from headrace.adapters import route_record
from headrace.adapters.local.traefik_start import PREFIX
from headrace.adapters.traefik_rules import (
    ANY,
    BODY_BYTES,
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
    sticky,
)
from headrace.ports import Route
from headrace.telemetry import ROLE_HEADER

_GENERATION = "Headrace-Generation"


@dataclass(frozen=True)
class Held:
    """Weights and addresses by version, as Traefik has them; both are empty without a route.

    Attributes:
        generation: of the write that they come from; 0 when the file doesn't say.
        shadows: version to percent of the requests that it gets copies of.
    """

    weights: Mapping[int, int]
    urls: Mapping[int, str]
    generation: int = 0
    shadows: Mapping[int, int] = field(default_factory=dict)


NOTHING = Held({}, {})


def render(route: Route, urls: Mapping[int, str]) -> str:
    """The file: a comment with the record, and below it what Traefik reads."""
    # Traefik takes the file for a Go template, comments included.
    record = route_record.dump(route).replace("{{", "\\u007b\\u007b")
    # JSON is YAML, and of JSON no beginning is valid: Traefik never takes half a file for a whole one.
    return f"{PREFIX}{record}\n{json.dumps(_configuration(route, urls), indent=1)}\n"


def route(path: Path) -> Route:
    """The record in a file that `render` made.

    Raises:
        IntegrityError: there is none, or it is of a newer form.
    """
    try:
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    except (OSError, ValueError) as broken:
        raise route_record.unreadable(path, broken) from broken
    if not first.startswith(PREFIX):
        raise route_record.unreadable(path, "its first line is no record of Headrace")
    return route_record.load(first.removeprefix(PREFIX), path, path.stem)


def weights(path: Path) -> Mapping[int, int] | None:
    """The weights that Traefik reads in a file; None when they can't be made out."""
    try:
        services = yaml.safe_load(path.read_text(encoding="utf-8"))["http"]["services"]
        return _weights(services[path.stem], path.stem)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


def altered(path: Path, written: Path) -> bool:
    """Whether a file has the same record as the copy that was written with it, and not the same below it."""
    try:
        found, good = path.read_bytes(), written.read_bytes()
    except OSError:
        return False
    return found != good and found.split(b"\n", 1)[0] == good.split(b"\n", 1)[0]


def parses(path: Path) -> bool:
    """Whether a file is YAML at all."""
    try:
        return isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError, yaml.YAMLError):
        return False


def held(raw: Mapping[str, Any], model: str) -> Held:
    """What the answer of Traefik's ``/api/rawdata`` says about a model; nothing, when its router is out of order."""
    services = raw.get("services") or {}
    router = (raw.get("routers") or {}).get(f"{model}@file", {})
    weighted = services.get(f"{model}@file", {})
    if router.get("status") != "enabled" or weighted.get("status") != "enabled":
        return NOTHING
    prefix = f"{model}-v"
    try:
        urls = {
            int(name.removeprefix(prefix).removesuffix("@file")): service["loadBalancer"]["servers"][0]["url"]
            for name, service in services.items()
            if name.startswith(prefix)
        }
        return Held(_weights(weighted, model), urls, _generation(raw, model), _shadows(raw, router, model))
    except (KeyError, IndexError, TypeError, ValueError):
        return NOTHING


def _generation(raw: Mapping[str, Any], model: str) -> int:
    middleware = (raw.get("middlewares") or {}).get(f"{_stamp(model)}@file", {})
    return int(middleware.get("headers", {}).get("customRequestHeaders", {}).get(_GENERATION, 0))


def _shadows(raw: Mapping[str, Any], router: Mapping[str, Any], model: str) -> dict[int, int]:
    if router["service"].removesuffix("@file") != _mirrored(model):
        return {}
    mirrors = raw["services"][f"{_mirrored(model)}@file"]["mirroring"]["mirrors"]
    return {_shadow_version(one["name"], model): int(one["percent"]) for one in mirrors}


def _mirrored(model: str) -> str:
    return f"{model}-mirrored"


def _shadow(model: str, version: int) -> str:
    return f"{model}-shadow-v{version}"


def _shadow_version(name: str, model: str) -> int:
    return int(name.removesuffix("@file").removeprefix(_shadow(model, 0)[:-1]))


def _stamp(model: str) -> str:
    return f"{model}-generation"


def _weights(service: Mapping[str, Any], model: str) -> dict[int, int]:
    children = service["weighted"]["services"]
    return {int(c["name"].removesuffix("@file").removeprefix(f"{model}-v")): int(c["weight"]) for c in children}


def _configuration(route: Route, urls: Mapping[int, str]) -> dict[str, Any]:
    model = route.model
    nowhere = f"{model}-nowhere"
    routers = {
        model: _router(paths(model), model if route.split.shadow is None else _mirrored(model), ANY, LIMIT),
        nowhere: _router(pinned_elsewhere(model), nowhere, PINNED_ELSEWHERE, LIMIT),
    }
    services: dict[str, Any] = {
        model: {
            "weighted": _weighted(route),
            # On the service, not on the router: a mirror between the two would have taken the body by the second try.
            "middlewares": [f"{RETRY}@file"],
        },
        nowhere: {"loadBalancer": {"servers": []}},
    }
    # Used by no router. Traefik repeats it when asked, and so says which write it holds: the weights alone don't, where
    # somebody changed the file by hand and a write puts it right before Traefik has read the change.
    middlewares = {_stamp(model): request_header(_GENERATION, str(route.generation))}
    as_what = roles(route.split)
    for version, url in sorted(urls.items()):
        name = f"{model}-v{version}"
        routers[name] = _router(pinned(model, version), name, PINNED, LIMIT, RETRY)
        # On the service, not on a router: of the requests that go to the weighted one, only it knows who answers.
        services[name] = {"loadBalancer": _release(url), "middlewares": [name]}
        middlewares[name] = request_header(ROLE_HEADER, as_what.get(version, ""))
    configuration = {"routers": routers, "services": services, "middlewares": middlewares}
    shadow = route.split.shadow
    if shadow is not None and shadow in urls:
        _add_shadow(configuration, model, shadow, urls[shadow], route.split.shadow_pct)
    return {"http": configuration}


def _weighted(route: Route) -> dict[str, Any]:
    weights = sorted(route.split.weights.items())
    weighted: dict[str, Any] = {
        "healthCheck": {},
        "services": [{"name": f"{route.model}-v{version}", "weight": pct} for version, pct in weights],
    }
    if route.split.sticky:
        weighted["sticky"] = sticky(route.model)
    return weighted


def _add_shadow(configuration: dict[str, Any], model: str, version: int, url: str, pct: int) -> None:
    """Between the model's router and its weights: whoever answers, the shadow gets a copy afterwards."""
    name = _shadow(model, version)
    mirrors = [{"name": name, "percent": pct}]
    configuration["services"] |= {
        _mirrored(model): {"mirroring": {"service": model, "maxBodySize": BODY_BYTES, "mirrors": mirrors}},
        # A service of its own for the role: requests that are pinned to this version are no shadow.
        name: {"loadBalancer": {**_release(url), "serversTransport": name}, "middlewares": [name]},
    }
    configuration["middlewares"][name] = request_header(ROLE_HEADER, "shadow")
    configuration["serversTransports"] = {name: {"forwardingTimeouts": SHADOW_TIMEOUTS}}


def _router(rule: str, service: str, priority: int, *middlewares: str) -> dict[str, Any]:
    return {
        "entryPoints": ["web"],
        "rule": rule,
        "service": service,
        "middlewares": [f"{name}@file" for name in middlewares],
        "priority": priority,
    }


def _release(url: str) -> dict[str, Any]:
    return {
        "servers": [{"url": url}],
        "passHostHeader": False,
        "healthCheck": {"path": "/v2/health/ready", "interval": "500ms", "timeout": "2s"},
    }
