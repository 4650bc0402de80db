"""What Traefik is told in both families, whatever form it is told in."""

from collections.abc import Collection, Mapping
from typing import Any

from headrace.domain.split import Split, told_weights
from headrace.errors import Conflict, Unavailable
from headrace.ports import Route

LIMIT = "headrace-limit"
RETRY = "headrace-retry"
CLEAN = "headrace-clean"
VERSION_HEADER = "Headrace-Version"
BODY_BYTES = 8 * 1024 * 1024
PINNED, PINNED_ELSEWHERE, ANY = 300, 200, 100
"""Priorities of a model's routes: to a version that runs, to one that does not, and to whoever has the traffic."""

# Traefik strips or replaces what else clients say about themselves: X-Real-Ip, X-Forwarded-For and so on.
_NOT_FORWARDED = ("Connection", "Upgrade", "Forwarded", "X-Forwarded-Host")
# A shadow that does not answer must not keep copies for long: each is memory of the proxy's.
SHADOW_TIMEOUTS = {"dialTimeout": "1s", "responseHeaderTimeout": "5s", "idleConnTimeout": "3s"}


def shared_middlewares() -> dict[str, dict[str, Any]]:
    """Those of all models, by name."""
    return {
        # The service is asked for nothing but an answer over HTTP/1.1, and who asks it is the proxy's to say.
        CLEAN: {"headers": {"customRequestHeaders": dict.fromkeys(_NOT_FORWARDED, "")}},
        LIMIT: {"buffering": {"maxRequestBodyBytes": BODY_BYTES}},
        # Only what was never sent is tried again: Traefik stops once it wrote the request.
        RETRY: {"retry": {"attempts": 6, "initialInterval": "20ms"}},
    }


def paths(model: str) -> str:
    """The rule for a model's paths.

    No path with dots or an empty segment in it, decoded: where it leads is a matter of opinion, and the service's could
    be another one than the proxy's.
    """
    # `flight` must not catch `flight_delay`: a prefix ends with a slash.
    prefixes = f"PathPrefix(`/v1/models/{model}/`) || Path(`/v2/models/{model}`) || PathPrefix(`/v2/models/{model}/`)"
    return f"({prefixes}) && !PathRegexp(`[^A-Za-z0-9_/-]|//`)"


def pinned(model: str, version: int) -> str:
    """The rule for requests that name a version."""
    return f"{paths(model)} && Header(`{VERSION_HEADER}`, `{version}`)"


def pinned_elsewhere(model: str) -> str:
    """The rule for requests that name any: one that does not run is never answered by another one."""
    return f"{paths(model)} && HeaderRegexp(`{VERSION_HEADER}`, `.*`)"


def request_header(name: str, value: str) -> dict[str, Any]:
    """Instead of what the client sent; an empty value is no header."""
    return {"headers": {"customRequestHeaders": {name: value}}}


def sticky(model: str) -> dict[str, Any]:
    """A cookie whose value says which version it was: one that has no traffic any more is not found."""
    return {"cookie": {"name": f"headrace_{model}", "httpOnly": True, "sameSite": "strict"}}


def roles(split: Split) -> dict[int, str]:
    """What each version of a split answers as; where a version is two things, the one that it has traffic for."""
    by_version = {split.previous: "previous", split.canary: "canary", split.stable: "stable"}
    return {version: role for version, role in by_version.items() if version is not None}


def shadows(split: Split) -> dict[int, int]:
    """Version to percent of the requests that it gets copies of."""
    return {} if split.shadow is None else {split.shadow: split.shadow_pct}


def told(weights: Mapping[int, int], copies: Mapping[int, int]) -> str:
    """What Traefik has of a model, for people."""
    shadowing = [f"v{version} shadows {pct} %" for version, pct in copies.items()]
    return ", ".join([told_weights(weights) or "no route", *shadowing])


def unwritten_since(model: str, route: Route | None, seen: int) -> int:
    """The generation of a route. Raises Conflict when it is no longer the one that the writer has seen."""
    generation = route.generation if route else 0
    if generation != seen:
        raise Conflict(
            f"the route of {model} is at generation {generation}, not {seen}: somebody wrote since; read again"
        )
    return generation


def require_running(model: str, split: Split, running: Collection[int]) -> None:
    """Raises Unavailable when a version that a split gives requests or copies to does not run."""
    for version in (*split.weights, *shadows(split)):
        if version not in running:
            known = ", ".join(f"v{one}" for one in sorted(running)) or "none"
            raise Unavailable(
                f"v{version} of {model} does not run (running: {known}), nothing was changed: start it first"
            )
