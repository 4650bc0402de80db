"""Rows that came with keys: what is filled in, what is counted, and what is refused."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.domain.contract import Contract, Feature
from serving.completion import Completed, Completion
from serving.online_store import Asked, Found, OnlineStore, open_store
from tests.serving.completing import (
    JFK,
    MAX_AGE_H,
    N1,
    NO_DEPARTURES,
    NO_PLANE,
    NOON,
    Complete,
    completing,
    contract,
    make_online,
)
from tests.serving.online_file import OnlineFile


@pytest.fixture
def online(tmp_path: Path) -> OnlineFile:
    """A store of the test's own."""
    return make_online(tmp_path)


@pytest.fixture
def complete(online: OnlineFile) -> Iterator[Complete]:
    """Completes rows from it."""
    with completing(online) as run:
        yield run


def test_features_of_every_view_are_filled_in_by_key(complete: Complete) -> None:
    row = {"origin": "JFK", "tail": "N1"}
    completed = complete(row)
    assert row == {"origin": "JFK", "tail": "N1", **JFK, **N1}
    assert [type(row[name]) for name in N1] == [int, bool, str]
    assert completed == Completed(ages_s={"departures": [3600.0], "planes": [3600.0]})


def test_what_a_row_holds_is_left_as_it_is_null_too(complete: Complete) -> None:
    row = {"origin": "JFK", "tail": "N1", "delay_min": None, "seat_count": 7, "maker": "Tupolev"}
    complete(row)
    assert row == {**row, "delay_min": None, "flight_count": 30, "seat_count": 7, "maker": "Tupolev"}


@pytest.mark.parametrize("keys", [{}, {"origin": None, "tail": None}, {"origin": 7, "tail": ["N1"]}])
def test_row_without_a_key_is_left_as_it_is(complete: Complete, keys: dict[str, Any]) -> None:
    row = dict(keys)
    assert complete(row) == Completed()
    assert row == keys


class Recording:
    """A store that remembers what it was asked."""

    def __init__(self, store: OnlineStore) -> None:
        self.store = store
        self.asked: list[Asked] = []

    async def read(self, asked: Sequence[Asked], deadline: float) -> Sequence[Found]:
        self.asked += asked
        return await self.store.read(asked, deadline)


def test_each_key_is_looked_up_once_and_only_where_a_feature_is_wanted(complete: Complete, online: OnlineFile) -> None:
    online.put("departures", "origin", "LGA", NOON, delay_min=1.0, flight_count=2)
    store = open_store(online.url)
    recording = Recording(store)
    rows = [{"origin": origin, "tail": "N1", **N1} for origin in ["JFK", "LGA", "JFK", "JFK"] * 25]
    complete(*rows, store=recording)
    store.close()
    assert recording.asked == [Asked("departures", "origin", ["JFK", "LGA"], frozenset({"delay_min", "flight_count"}))]
    assert [row["flight_count"] for row in rows] == [30, 2, 30, 30] * 25


def test_key_without_a_value_gets_the_defaults_and_is_counted(complete: Complete) -> None:
    rows = [{"origin": "LGA", "tail": "N1"}, {"origin": "LGA"}, {"tail": "N2", "maker": "Airbus"}]
    completed = complete(*rows)
    assert completed.fallbacks == {("departures", "absent"): 2, ("planes", "absent"): 1}
    assert rows == [
        {"origin": "LGA", "tail": "N1", **NO_DEPARTURES, **N1},
        {"origin": "LGA", **NO_DEPARTURES},
        {"tail": "N2", **NO_PLANE, "maker": "Airbus"},
    ]


def test_value_is_used_up_to_its_greatest_age_and_not_after(complete: Complete) -> None:
    row, older = {"origin": "JFK"}, {"origin": "JFK"}
    assert complete(row, at_h=MAX_AGE_H) == Completed(ages_s={"departures": [MAX_AGE_H * 3600.0]})
    assert row["flight_count"] == 30
    completed = complete(older, at_h=MAX_AGE_H + 1 / 3600)
    assert completed.fallbacks == {("departures", "stale"): 1}
    assert completed.ages_s == {"departures": [MAX_AGE_H * 3600.0 + 1]}
    assert older == {"origin": "JFK", **NO_DEPARTURES}


def test_age_is_that_at_the_rows_own_decision(complete: Complete) -> None:
    times = ["2020-01-01T12:00:00Z", "2020-01-01T13:00:00+01:00", "2020-01-01T18:00:01Z", "2020-01-01T11:59:59Z", None]
    rows = [{"origin": "JFK", "decided_at": time} for time in times]
    completed = complete(*rows, at_h=1000)
    assert [row["flight_count"] for row in rows] == [30, 30, 10, 10, 10]
    assert completed.fallbacks == {("departures", "stale"): 2, ("departures", "future"): 1}
    assert completed.ages_s == {"departures": [0.0, 0.0, 21601.0, 3600_000.0]}


def test_value_that_is_ahead_of_the_clock_is_used_where_no_decision_time_was_sent(
    complete: Complete,
) -> None:
    row = {"origin": "JFK"}
    assert complete(row, at_h=-0.001) == Completed(ages_s={"departures": [0.0]})
    assert row["flight_count"] == 30


@pytest.mark.parametrize("time", ["yesterday", "2020-01-01T12:00:00", 1577880000, ""])
def test_decision_time_that_is_none_is_the_clients_problem(complete: Complete, time: Any) -> None:
    row = {"origin": "JFK", "decided_at": time}
    completed = complete({"origin": "JFK"}, row)
    assert len(completed.problems) == 1
    assert completed.problems[0].startswith("rows[1]: 'decided_at' must be a time with its zone")
    assert row == {"origin": "JFK", "decided_at": time}


def test_stored_null_is_a_value_of_a_feature_that_may_be_missing_and_none_of_another(
    complete: Complete, online: OnlineFile
) -> None:
    online.put("departures", "origin", "JFK", NOON, delay_min=None, flight_count=None)
    row = {"origin": "JFK"}
    assert complete(row).fallbacks == {("departures", "absent"): 1}
    assert row == {"origin": "JFK", "delay_min": None, "flight_count": 10}
    online.put("departures", "origin", "JFK", NOON, delay_min=float("nan"), flight_count=30)
    row = {"origin": "JFK"}
    assert complete(row).fallbacks == {}
    assert row == {"origin": "JFK", "delay_min": None, "flight_count": 30}


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("seat_count", 200.0),
        ("seat_count", True),
        ("seat_count", "200"),
        ("is_leased", 1),
        ("maker", "Tupolev"),
        ("maker", 1),
        ("maker", b"\x12\x02\xff\xff"),
        ("seat_count", b"\x20"),
    ],
)
def test_value_of_another_type_is_unreadable_and_the_others_are_used(
    complete: Complete, online: OnlineFile, name: str, stored: Any
) -> None:
    online.put("planes", "tail", "N1", NOON, **N1 | {name: stored})
    row = {"tail": "N1"}
    assert complete(row).fallbacks == {("planes", "unreadable"): 1}
    assert row == {"tail": "N1", **N1, name: NO_PLANE[name]}


@pytest.mark.parametrize("stored", [float("inf"), -float("inf"), 1e39])
def test_float_that_the_model_cannot_take_is_unreadable(complete: Complete, online: OnlineFile, stored: float) -> None:
    online.put("departures", "origin", "JFK", NOON, delay_min=stored, flight_count=30)
    row = {"origin": "JFK"}
    assert complete(row).fallbacks == {("departures", "unreadable"): 1}
    assert row == {"origin": "JFK", "delay_min": None, "flight_count": 30}


def test_category_that_the_contract_does_not_know_is_left_to_it_where_it_may_be_missing(tmp_path: Path) -> None:
    words = Feature("kind", "category", "", values=("a",), missing=True, view="planes")
    base = contract()
    some = Contract(
        **{f: getattr(base, f) for f in base.__dataclass_fields__ if f not in ("features", "example", "views")},
        features=(words,),
        example={"kind": "a"},
        views={"planes": base.views["planes"]},
    )
    file = OnlineFile(tmp_path / "online.db")
    file.put("planes", "tail", "N1", NOON, kind="b")
    store, row = open_store(file.url), {"tail": "N1"}
    completed = asyncio.run(Completion(some, store, 10, lambda: NOON).complete([row]))
    store.close()
    assert (row, completed.fallbacks) == ({"tail": "N1", "kind": "b"}, {})


def test_rest_of_an_older_row_is_no_value(complete: Complete, online: OnlineFile) -> None:
    online.put("departures", "origin", "JFK", NOON + timedelta(minutes=1), delay_min=1.0)
    row = {"origin": "JFK"}
    assert complete(row).fallbacks == {("departures", "absent"): 1}
    assert row == {"origin": "JFK", "delay_min": 1.0, "flight_count": 10}


def test_policy_refuses_rows_and_says_which_and_why_but_no_value(complete: Complete, online: OnlineFile) -> None:
    online.put("planes", "tail", "N3", NOON, **N1 | {"maker": None, "seat_count": "many"})
    rows = [
        {"origin": "JFK", "tail": "N1"},
        {"origin": "LGA", "tail": "N3"},
        {"origin": "JFK", "decided_at": "2020-01-01T11:00:00Z"},
        {"origin": "JFK", "decided_at": "2020-01-01T19:00:00Z"},
        {"tail": "N3", "maker": "Airbus", "seat_count": 1},
    ]
    completed = complete(*rows, fallback="refuse")
    assert completed.refused == [
        "rows[1]: view 'departures' has no value for this 'origin'",
        "rows[1]: view 'planes' has an unusable 'seat_count' for this 'tail'",
        "rows[1]: view 'planes' has no 'maker' for this 'tail'",
        "rows[2]: view 'departures' has only a value later than 'decided_at' for this 'origin'",
        "rows[3]: view 'departures' has only a value older than 6 h for this 'origin'",
    ]
    assert rows[0] == {"origin": "JFK", "tail": "N1", **JFK, **N1}
    assert rows[4] == {"tail": "N3", "maker": "Airbus", "seat_count": 1, "is_leased": True}
    assert completed.fallbacks == {
        ("departures", "absent"): 1,
        ("departures", "future"): 1,
        ("departures", "stale"): 1,
        ("planes", "absent"): 1,
        ("planes", "unreadable"): 1,
    }


def test_sentences_are_about_the_first_few_rows(complete: Complete) -> None:
    rows = [{"tail": f"N{number}"} for number in range(2, 1000)]
    completed = complete(*rows, fallback="refuse")
    assert [sentence.partition(":")[0] for sentence in completed.refused] == [f"rows[{i}]" for i in range(5)]
    assert completed.fallbacks == {("planes", "absent"): 998}


def test_store_that_answers_at_once_is_read_without_giving_way(online: OnlineFile) -> None:
    store = open_store(online.url)
    step = Completion(contract(), store, 10, lambda: NOON).complete([{"origin": "JFK"}])
    with pytest.raises(StopIteration) as ended:
        step.send(None)
    store.close()
    assert ended.value.value.ages_s == {"departures": [0.0]}
