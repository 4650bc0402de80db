"""A model's route as a file, and what is read back of it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.local import traefik_route
from headrace.adapters.local.traefik_route import Held
from headrace.adapters.traefik_rules import BODY_BYTES, LIMIT, RETRY
from headrace.domain.evidence import Counts, Expected
from headrace.domain.rollout import RolloutState, begin, ended
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.split import Split
from headrace.errors import IntegrityError
from headrace.ports import Route
from headrace.telemetry import ROLE_HEADER

URLS = {2: "http://127.0.0.1:1", 3: "http://127.0.0.1:2", 4: "http://127.0.0.1:3", 5: "http://127.0.0.1:4"}
ROUTE = Route("flight", Split(3, 4, 10, previous=2), 7, "try v4")
SHADOWED = Route("flight", Split(3, 4, 10, previous=2, shadow=5, shadow_pct=40, sticky=True), 8)
OLDER_FORM = """\
# headrace: {"generation": 7, "model": "flight", "note": "try v4", "schema_version": 1, "split": {"canary": 4, \
"canary_pct": 10, "previous": 2, "stable": 3}}
{"http": {"routers": {"flight": {"service": "flight"}}, "services": {"flight": {"weighted": {"services": [
 {"name": "flight-v3", "weight": 90}, {"name": "flight-v4", "weight": 10}]}}}}}
"""


def configuration(route: Route = ROUTE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(traefik_route.render(route, URLS).split("\n", 1)[1])["http"]
    return found


def rawdata(route: Route = ROUTE) -> dict[str, Any]:
    """What Traefik answers once it holds a route."""
    http = configuration(route)
    return {
        kind: {f"{name}@file": {**value, "status": "enabled"} for name, value in http[kind].items()} for kind in http
    }


def test_what_traefik_repeats_of_a_file_is_what_was_written():
    assert traefik_route.held(rawdata(), "flight") == Held({3: 90, 4: 10}, URLS, 7)
    assert traefik_route.held(rawdata(), "flight_delay") == traefik_route.NOTHING
    assert traefik_route.held({}, "flight") == traefik_route.NOTHING


def test_what_traefik_repeats_of_a_mirror_is_what_was_written():
    assert traefik_route.held(rawdata(SHADOWED), "flight") == Held({3: 90, 4: 10}, URLS, 8, {5: 40})


def test_mirror_that_no_router_leads_to_is_none():
    raw = rawdata(SHADOWED)
    raw["routers"]["flight@file"]["service"] = "flight@file"
    assert traefik_route.held(raw, "flight").shadows == {}


@pytest.mark.parametrize(
    "broken", [{}, {"mirroring": {}}, {"mirroring": {"mirrors": [{"name": "other", "percent": 1}]}}]
)
def test_route_to_a_mirror_that_cant_be_made_out_holds_nothing(broken: dict[str, Any]):
    raw = rawdata(SHADOWED)
    raw["services"]["flight-mirrored@file"] = broken
    assert traefik_route.held(raw, "flight") == traefik_route.NOTHING


def test_equal_weights_of_another_write_are_something_else():
    later = Route(ROUTE.model, ROUTE.split, ROUTE.generation + 1)
    assert traefik_route.held(rawdata(later), "flight") != traefik_route.held(rawdata(), "flight")


@pytest.mark.parametrize("kind", ["routers", "services"])
def test_route_out_of_order_holds_nothing(kind: str):
    raw = rawdata()
    raw[kind]["flight@file"]["status"] = "disabled"
    assert traefik_route.held(raw, "flight") == traefik_route.NOTHING


def test_file_of_the_older_form_is_read_and_holds_no_generation(tmp_path: Path):
    path = tmp_path / "flight.yml"
    path.write_text(OLDER_FORM)
    assert traefik_route.route(path) == ROUTE
    assert traefik_route.weights(path) == {3: 90, 4: 10}
    raw = rawdata()
    del raw["middlewares"]
    assert traefik_route.held(raw, "flight") == Held({3: 90, 4: 10}, URLS, 0)


def test_file_of_a_newer_form_is_refused(tmp_path: Path):
    path = tmp_path / "flight.yml"
    text = traefik_route.render(ROUTE, URLS)
    assert '"schema_version": 2' in text
    path.write_text(text.replace('"schema_version": 2', '"schema_version": 3'))
    with pytest.raises(IntegrityError, match=r"newer Headrace \(form 3\)"):
        traefik_route.route(path)


COUNT = st.integers(0, 2**53)
BOUNDS = st.dictionaries(st.floats(allow_nan=False, allow_infinity=False), COUNT, max_size=5)
TIMES = st.floats(0, 4e9)
COUNTS = st.none() | st.builds(Counts, COUNT, COUNT, BOUNDS, COUNT, COUNT, COUNT, BOUNDS, st.none() | TIMES)
POLICY = RolloutPolicy((RolloutStep(shadow_pct=100, min_requests=7), RolloutStep(weight_pct=10, hold_s=0.1)))


@given(counts=st.tuples(COUNTS, COUNTS), now=TIMES, reason=st.text(max_size=60), by=st.none() | st.text(max_size=9))
def test_any_state_of_a_rollout_comes_back_equal_and_is_no_template(
    tmp_path_factory: pytest.TempPathFactory,
    counts: tuple[Counts | None, Counts | None],
    now: float,
    reason: str,
    by: str | None,
):
    path = tmp_path_factory.mktemp("route") / "flight.yml"
    expected = Expected(0.005, scores={0.1 + 0.2: -1 / 3, 1e-07: 0.25}, disagreement=now / 4e9)
    began: RolloutState = begin(4, POLICY, expected, now, counts)
    for state in (began, replace(ended(began, "taken back", reason + "{{{ x }}"), approved_by=by)):
        route = replace(ROUTE, rollout=state)
        path.write_text(traefik_route.render(route, URLS), encoding="utf-8")
        assert traefik_route.route(path) == route
        assert "{{" not in path.read_text(encoding="utf-8")


def test_state_with_an_unknown_key_is_refused(tmp_path: Path):
    path = tmp_path / "flight.yml"
    state = begin(4, POLICY, Expected(0.005), 1.0, (None, None))
    text = traefik_route.render(replace(ROUTE, rollout=state), URLS)
    path.write_text(text.replace('"step_at"', '"stepped_at"'))
    with pytest.raises(IntegrityError, match="stepped_at"):
        traefik_route.route(path)


@given(note=st.text(max_size=60))
def test_any_note_comes_back_and_is_no_template(tmp_path_factory: pytest.TempPathFactory, note: str):
    path = tmp_path_factory.mktemp("route") / "flight.yml"
    route = Route("flight", Split(3), 1, note)
    path.write_text(traefik_route.render(route, URLS), encoding="utf-8")
    assert traefik_route.route(path) == route
    assert "{{" not in path.read_text(encoding="utf-8").split("\n", 1)[0]


@pytest.mark.parametrize("cut", [0, 1, 30, -2, -40])
def test_part_of_a_file_is_never_a_whole_one(tmp_path: Path, cut: int):
    path = tmp_path / "flight.yml"
    path.write_text(traefik_route.render(ROUTE, URLS)[:cut])
    assert traefik_route.weights(path) is None


def test_record_of_another_model_is_refused(tmp_path: Path):
    path = tmp_path / "flight_delay.yml"
    path.write_text(traefik_route.render(ROUTE, URLS))
    with pytest.raises(IntegrityError, match="record of 'flight'"):
        traefik_route.route(path)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (Split(3), {3: "stable"}),
        (Split(3, 4, 10, previous=2), {2: "previous", 3: "stable", 4: "canary"}),
        (Split(3, 4, 10, previous=4), {3: "stable", 4: "canary"}),
        (Split(3, previous=3), {3: "stable"}),
        (Split(3, shadow=4, shadow_pct=100), {3: "stable"}),
        (Split(3, previous=4, shadow=4, shadow_pct=100), {3: "stable", 4: "previous"}),
    ],
)
def test_version_answers_as_what_it_has_traffic_for(split: Split, expected: dict[int, str]):
    assert traefik_route.roles(split) == expected


def test_every_release_has_its_role_set_and_one_without_any_has_it_removed():
    http = configuration()
    for version, role in {2: "previous", 3: "stable", 4: "canary", 5: ""}.items():
        [middleware] = http["services"][f"flight-v{version}"]["middlewares"]
        assert http["middlewares"][middleware]["headers"]["customRequestHeaders"] == {ROLE_HEADER: role}


def test_shadow_gets_copies_of_what_the_weights_share_out_and_by_a_way_of_its_own():
    http = configuration(SHADOWED)
    assert http["routers"]["flight"]["service"] == "flight-mirrored"
    mirroring = http["services"]["flight-mirrored"]["mirroring"]
    assert mirroring["service"] == "flight"
    assert mirroring["mirrors"] == [{"name": "flight-shadow-v5", "percent": 40}]
    # All that gets past the limit before it.
    assert mirroring["maxBodySize"] == BODY_BYTES
    shadow = http["services"]["flight-shadow-v5"]
    assert shadow["loadBalancer"]["servers"] == [{"url": URLS[5]}]
    assert http["middlewares"][shadow["middlewares"][0]]["headers"]["customRequestHeaders"] == {ROLE_HEADER: "shadow"}
    timeouts = http["serversTransports"][shadow["loadBalancer"]["serversTransport"]]["forwardingTimeouts"]
    assert timeouts["responseHeaderTimeout"] == "5s"
    # Requests that are pinned to the same version don't go that way.
    assert http["routers"]["flight-v5"]["service"] == "flight-v5"
    assert "serversTransport" not in http["services"]["flight-v5"]["loadBalancer"]


def test_cookie_is_set_only_where_clients_stay():
    assert "sticky" not in configuration()["services"]["flight"]["weighted"]
    cookie = configuration(SHADOWED)["services"]["flight"]["weighted"]["sticky"]["cookie"]
    assert cookie == {"name": "headrace_flight", "httpOnly": True, "sameSite": "strict"}


@pytest.mark.parametrize("route", [ROUTE, SHADOWED, Route("flight", Split(3), 1)])
def test_everything_that_is_referred_to_is_there(route: Route):
    http = configuration(route)
    services, middlewares = http["services"], http["middlewares"]
    to_services = [router["service"] for router in http["routers"].values()]
    to_middlewares = [name for router in http["routers"].values() for name in router["middlewares"]]
    to_transports = []
    for service in services.values():
        to_services += [child["name"] for child in service.get("weighted", {}).get("services", [])]
        mirroring = service.get("mirroring", {"service": "flight", "mirrors": []})
        to_services += [mirroring["service"], *(mirror["name"] for mirror in mirroring["mirrors"])]
        to_middlewares += service.get("middlewares", [])
        to_transports += [one for one in [service.get("loadBalancer", {}).get("serversTransport")] if one]
    assert set(to_services) == set(services)
    shared = {f"{LIMIT}@file", f"{RETRY}@file"}
    assert set(to_middlewares) - shared == set(middlewares) - {"flight-generation"}
    assert set(to_transports) == set(http.get("serversTransports", {}))


def test_file_is_altered_only_where_its_record_is_that_of_the_copy(tmp_path: Path):
    file, copy = tmp_path / "flight.yml", tmp_path / "copy.yml"
    text = traefik_route.render(ROUTE, URLS)
    file.write_text(text)
    assert not traefik_route.altered(file, copy)
    copy.write_text(text)
    assert not traefik_route.altered(file, copy)
    # Of another write: between the two that a write makes.
    copy.write_text(traefik_route.render(SHADOWED, URLS))
    assert not traefik_route.altered(file, copy)
    copy.write_text(text)
    file.write_text(text.replace(URLS[3], URLS[4]))
    assert traefik_route.altered(file, copy)
    file.unlink()
    assert not traefik_route.altered(file, copy)


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("/v1/models/flight/predict", False),
        ("/v2/models/flight/versions/3/infer", False),
        ("/v1/models/flight/../bikes/predict", True),
        ("/v1/models/flight/..", True),
        ("/v1/models/flight//predict", True),
        ("/v1/models/flight/a;b", True),
        ("/v1/models/flight/a\\b", True),
        ("/v1/models/flight/a%2fb", True),
        ("/v1/models/flight/a\x00b", True),
        ("/v1/models/flight/é", True),
    ],
)
def test_every_rule_of_a_model_refuses_paths_that_lead_elsewhere(path: str, refused: bool):
    for router in configuration()["routers"].values():
        [odd] = re.findall(r"&& !PathRegexp\(`(.*?)`\)", router["rule"])
        assert bool(re.search(odd, path)) == refused
