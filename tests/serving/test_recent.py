"""What a service tells of its latest predictions, so that two versions can be compared row by row."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from headrace import telemetry
from tests.serving.conftest import make_rows

Make = Callable[..., TestClient]


def told(client: TestClient) -> dict[str, Any]:
    answer = client.get(telemetry.RECENT_PATH)
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


def ask(client: TestClient, rows: list[dict[str, Any]], **headers: str) -> list[dict[str, Any]]:
    answer = client.post("/v1/models/flight_delay/predict", json={"rows": rows}, headers=headers)
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def test_nothing_is_told_before_the_first_prediction(client: TestClient) -> None:
    assert told(client) == {"version": 3, "rows": [], "scores": [], "probes": []}


def test_rows_are_told_with_what_was_answered_and_equal_rows_have_equal_digests(
    client: TestClient, make_client: Make
) -> None:
    rows = make_rows(5)
    answered = [one["probability"] for one in ask(client, [*rows, rows[0]])]
    here = told(client)
    assert sorted(here["scores"]) == pytest.approx(sorted(answered))
    assert len(set(here["rows"])) == 5
    twin = make_client()
    ask(twin, rows)
    there = told(twin)
    assert set(there["rows"]) == set(here["rows"])
    scores = dict(zip(here["rows"], here["scores"], strict=True))
    assert scores == dict(zip(there["rows"], there["scores"], strict=True))


def test_rows_of_probes_are_told_from_those_of_clients(client: TestClient) -> None:
    ask(client, make_rows(2))
    ask(client, make_rows(3), **{"X-Request-ID": f"{telemetry.PROBE_ID}1"})
    ask(client, make_rows(1))
    assert told(client)["probes"] == [False, False, True, True, True, False]


def test_a_scrape_takes_nothing_away(client: TestClient) -> None:
    ask(client, make_rows(3))
    client.get("/metrics")
    assert len(told(client)["rows"]) == 3


def test_of_very_many_rows_the_latest_are_told(client: TestClient) -> None:
    ask(client, make_rows(4500))
    last = ask(client, make_rows(1))[0]["probability"]
    here = told(client)
    assert len(here["rows"]) == 4096
    assert here["scores"][0] == pytest.approx(last)


def test_the_score_of_several_classes_is_the_likeliest_ones(make_client: Make) -> None:
    client = make_client("multiclass")
    answered = ask(client, make_rows(2))
    likeliest = [max(one["probabilities"].values()) for one in answered]
    assert sorted(told(client)["scores"]) == pytest.approx(sorted(likeliest))


def test_the_process_says_since_when_it_counts(client: TestClient) -> None:
    (line,) = [one for one in client.get("/metrics").text.splitlines() if one.startswith(telemetry.STARTED)]
    assert float(line.split()[1]) > 1.7e9
