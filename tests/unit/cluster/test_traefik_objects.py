"""A route as Kubernetes objects, and read back from what Traefik says of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters import route_record
from headrace.adapters.cluster import traefik_objects
from headrace.adapters.cluster.kubernetes_api import MODEL_LABEL
from headrace.adapters.cluster.reach import Reach
from headrace.adapters.cluster.traefik_objects import Held, held, wanted
from headrace.adapters.cluster.traefik_router import CustomResourceRouter
from headrace.domain.split import Split
from headrace.errors import UsageError
from headrace.ports import Route
from headrace.settings import Settings
from tests.unit.cluster import rawdata
from tests.unit.cluster.rawdata import NAMESPACE

MODEL = "flight_delay"
CANARY = Split(3, canary=4, canary_pct=10, previous=2)
SHADOW = Split(3, shadow=4, shadow_pct=50, sticky=True)


def route(split: Split, model: str = MODEL) -> Route:
    return Route(model, split, 7, "a test")


def by_name(split: Split, *versions: int) -> dict[str, Any]:
    """Kind and name to spec, of all objects of a route."""
    made = [traefik_objects.weighted(route(split), NAMESPACE, versions)]
    made += [one for _, one in traefik_objects.derived(route(split), NAMESPACE, versions)]
    return {f"{one['kind']}/{one['metadata']['name']}": one["spec"] for one in made}


def names(middlewares: list[dict[str, str]]) -> list[str]:
    return [one["name"].removeprefix("headrace-") for one in middlewares]


def test_every_version_with_traffic_has_its_weight_and_its_role():
    services = by_name(CANARY, 2, 3, 4)["TraefikService/flight-delay"]["weighted"]["services"]
    told = [(one["name"], one["port"], one["weight"], names(one["middlewares"])) for one in services]
    assert told == [
        ("flight-delay-v3", "http", 90, ["role-stable"]),
        ("flight-delay-v4", "http", 10, ["role-canary"]),
    ]


def test_record_is_beside_the_weights_and_reads_back():
    made = traefik_objects.weighted(route(CANARY), NAMESPACE, [4, 2, 3])
    notes = made["metadata"]["annotations"]
    assert route_record.load(notes[traefik_objects.RECORD], "here", MODEL) == route(CANARY)
    assert notes[traefik_objects.VERSIONS] == "2,3,4"
    assert made["metadata"]["labels"][MODEL_LABEL] == MODEL


def test_every_running_version_can_be_named_and_any_other_is_answered_by_nobody():
    routes = by_name(CANARY, 2, 3, 4, 5)["IngressRoute/flight-delay"]["routes"]
    told = {
        one["services"][0]["name"]: (one["priority"], names(one["services"][0]["middlewares"]))
        for one in routes
        if "Header(" in one["match"]
    }
    assert told == {
        "flight-delay-v2": (300, ["role-previous"]),
        "flight-delay-v3": (300, ["role-stable"]),
        "flight-delay-v4": (300, ["role-canary"]),
        "flight-delay-v5": (300, ["role-none"]),
    }
    (elsewhere,) = [one for one in routes if "HeaderRegexp(" in one["match"]]
    assert (elsewhere["priority"], elsewhere["services"][0]["name"]) == (200, traefik_objects.NOWHERE)
    (main,) = [one for one in routes if one["priority"] == 100]
    assert main["services"] == [{"name": "flight-delay", "kind": "TraefikService"}]


def test_without_a_shadow_the_whole_route_tries_again_and_nothing_is_mirrored():
    made = by_name(CANARY, 3, 4)
    (main,) = [one for one in made["IngressRoute/flight-delay"]["routes"] if one["priority"] == 100]
    assert names(main["middlewares"]) == ["clean", "limit", "retry"]
    assert made["TraefikService/flight-delay-mirrored"]["mirroring"]["mirrors"] == []


def test_behind_a_mirror_only_each_service_tries_again():
    made = by_name(SHADOW, 3, 4)
    (main,) = [one for one in made["IngressRoute/flight-delay"]["routes"] if one["priority"] == 100]
    assert names(main["middlewares"]) == ["clean", "limit"]
    assert main["services"] == [{"name": "flight-delay-mirrored", "kind": "TraefikService"}]
    (stable,) = made["TraefikService/flight-delay"]["weighted"]["services"]
    assert names(stable["middlewares"]) == ["retry", "role-stable"]
    mirroring = made["TraefikService/flight-delay-mirrored"]["mirroring"]
    assert (mirroring["name"], mirroring["kind"]) == ("flight-delay", "TraefikService")
    (mirror,) = mirroring["mirrors"]
    assert (mirror["name"], mirror["percent"], names(mirror["middlewares"])) == ("flight-delay-v4", 50, ["role-shadow"])


def test_cookie_is_given_only_when_clients_shall_stay():
    assert "sticky" not in by_name(CANARY, 3, 4)["TraefikService/flight-delay"]["weighted"]
    sticky = by_name(SHADOW, 3, 4)["TraefikService/flight-delay"]["weighted"]["sticky"]
    assert sticky["cookie"]["name"] == "headrace_flight_delay"


def test_every_middleware_and_transport_that_a_route_names_is_shared():
    there = {one["metadata"]["name"] for _, one in traefik_objects.shared(NAMESPACE)}
    found: set[str] = set()

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            found.update(one["name"] for one in part.get("middlewares", []))
            found.update([part["serversTransport"]] if "serversTransport" in part else [])
            walk(list(part.values()))
        elif isinstance(part, list):
            for one in part:
                walk(one)

    for split in (CANARY, SHADOW):
        walk(by_name(split, 2, 3, 4, 5))
    assert found == there


@st.composite
def splits(draw: st.DrawFn) -> tuple[Split, list[int]]:
    """A valid split, and versions that run: all of it and others."""
    stable, tried, previous, other = draw(st.lists(st.integers(1, 99), min_size=4, max_size=4, unique=True))
    canary_pct = draw(st.just(0) | st.integers(1, 99))
    shadow_pct = draw(st.just(0) | st.integers(1, 100))
    split = Split(
        stable,
        canary=tried if canary_pct else None,
        canary_pct=canary_pct,
        shadow=(other if canary_pct else tried) if shadow_pct else None,
        shadow_pct=shadow_pct,
        previous=draw(st.sampled_from([None, previous])),
        sticky=draw(st.booleans()),
    )
    return split, sorted(split.versions | draw(st.frozensets(st.integers(1, 99), max_size=3)))


@given(splits())
def test_traefik_holds_what_was_written(made: tuple[Split, list[int]]):
    split, versions = made
    raw = rawdata.of((route(split), versions))
    assert held(raw, NAMESPACE, MODEL) == wanted(route(split), versions)


NEIGHBOURS = ["flight", "flight_delay", "flight_delay_v4", "flight_http", "flight_mirror", "delay"]


@pytest.mark.parametrize("order", [NEIGHBOURS, NEIGHBOURS[::-1]])
def test_models_whose_names_begin_alike_are_kept_apart(order: list[str]):
    there = [(route(Split(n, canary=n + 1, canary_pct=10 + n), name), [n, n + 1]) for n, name in enumerate(order, 1)]
    raw = rawdata.of(*there)
    for one, versions in there:
        assert held(raw, NAMESPACE, one.model) == wanted(one, versions), one.model
        without = rawdata.of(*(other for other in there if other[0] is not one))
        assert held(without, NAMESPACE, one.model) == Held(), one.model


@pytest.mark.parametrize("name", ["flight_delay_mirrored", "flight_v3_http"])
def test_model_whose_objects_would_be_another_ones_is_refused(name: str):
    kubernetes: Any = None  # nothing is asked
    router = CustomResourceRouter(Settings(Path(), Path()), kubernetes, Reach(kubernetes, NAMESPACE), lambda _: [])
    with pytest.raises(UsageError, match=f"'{name}' can't be routed"):
        router.read(name)


def test_another_namespace_is_not_ours():
    raw = rawdata.of((route(CANARY), [3, 4]))
    assert held(raw, "head", MODEL) == Held()
    assert held(raw, "headrace-flight", "delay") == Held()


def disable(raw: dict[str, Any], part: str, which: Callable[[str, Any], bool]) -> None:
    (name,) = [name for name, one in raw[part].items() if which(name, one)]
    raw[part][name]["status"] = "disabled"


def test_main_router_that_is_disabled_holds_nothing():
    raw = rawdata.of((route(SHADOW), [3, 4]))
    disable(raw, "routers", lambda _, one: one["priority"] == 100)
    assert held(raw, NAMESPACE, MODEL) == Held()


@pytest.mark.parametrize(
    "name", ["headrace-flight-delay@kubernetescrd", "headrace-flight-delay-mirrored@kubernetescrd"]
)
def test_service_that_is_disabled_or_missing_holds_nothing(name: str):
    raw = rawdata.of((route(SHADOW), [3, 4]))
    disable(raw, "services", lambda other, _: other == name)
    assert held(raw, NAMESPACE, MODEL) == Held()
    del raw["services"][name]
    assert held(raw, NAMESPACE, MODEL) == Held()


def test_version_whose_router_is_disabled_can_not_be_named():
    raw = rawdata.of((route(CANARY), [3, 4]))
    disable(raw, "routers", lambda _, one: one["rule"].endswith("`4`)"))
    assert held(raw, NAMESPACE, MODEL).versions == {3}


@pytest.mark.parametrize("raw", [{}, {"routers": None, "services": None}, {"routers": {}, "services": {}}])
def test_traefik_without_objects_holds_nothing(raw: dict[str, Any]):
    assert held(raw, NAMESPACE, MODEL) == Held()


def test_weights_changed_by_hand_are_held_as_they_are():
    raw = rawdata.of((route(CANARY), [3, 4]))
    raw["services"]["headrace-flight-delay@kubernetescrd"]["weighted"]["services"][0]["weight"] = 50
    assert held(raw, NAMESPACE, MODEL).weights == {3: 50, 4: 10}


def test_service_that_is_no_release_of_the_model_holds_nothing():
    raw = rawdata.of((route(CANARY), [3, 4]))
    raw["services"]["headrace-flight-delay@kubernetescrd"]["weighted"]["services"][0]["name"] = "headrace-other-http"
    assert held(raw, NAMESPACE, MODEL) == Held()


@pytest.mark.parametrize(
    ("live", "rendered", "expected"),
    [
        ({"a": 1, "added": "by the server"}, {"a": 1}, False),
        ({"a": [{"name": "x", "scheme": "http"}]}, {"a": [{"name": "x"}]}, False),
        ({}, {"value": "", "flag": False}, False),
        ({}, {"none": {}}, False),
        ({"a": 1}, {"a": 2}, True),
        ({}, {"a": 0}, True),
        ({}, {"mirrors": [{"name": "x"}]}, True),
        ({"mirrors": [{"name": "x"}, {"name": "y"}]}, {"mirrors": [{"name": "x"}]}, True),
        ({"mirrors": [{"name": "y"}, {"name": "x"}]}, {"mirrors": [{"name": "x"}, {"name": "y"}]}, True),
        ({"a": "text"}, {"a": {"b": 1}}, True),
    ],
)
def test_only_what_was_written_counts_as_different(live: Any, rendered: Any, expected: bool):
    assert traefik_objects.differs(live, rendered) is expected
