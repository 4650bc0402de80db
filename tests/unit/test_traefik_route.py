"""A model's route as a file, and what is read back of it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.local import traefik_route
from headrace.adapters.local.traefik_route import Held
from headrace.domain.rollout import Split
from headrace.errors import IntegrityError
from headrace.ports import Route
from headrace.telemetry import ROLE_HEADER

URLS = {2: "http://127.0.0.1:1", 3: "http://127.0.0.1:2", 4: "http://127.0.0.1:3", 5: "http://127.0.0.1:4"}
ROUTE = Route("flight", Split(3, 4, 10, previous=2), 7, "try v4")
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
    ],
)
def test_version_answers_as_what_it_has_traffic_for(split: Split, expected: dict[int, str]):
    assert traefik_route.roles(split) == expected


def test_every_release_has_its_role_set_and_one_without_any_has_it_removed():
    http = configuration()
    for version, role in {2: "previous", 3: "stable", 4: "canary", 5: ""}.items():
        [middleware] = http["services"][f"flight-v{version}"]["middlewares"]
        assert http["middlewares"][middleware]["headers"]["customRequestHeaders"] == {ROLE_HEADER: role}


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
