"""Keys and times of rows: what is one, what is none, and that no sentence repeats it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.contract import Contract, FeatureView
from serving.keys import KEY_BYTES, Keys, key_bytes, key_names, microseconds, read_keys
from serving.rows import RowProblems
from tests.serving.conftest import make_contract

NOON_US = 1_372_680_000_000_000
NOON = "2013-07-01T12:00:00Z"


def with_entities() -> Contract:
    """Rows are named by flight_id; a view is joined by `tail`, and one by the feature `carrier`."""
    view = {"source": "x.parquet", "time": "at", "max_age_h": 1.0}
    views = {"planes": FeatureView("tail", **view), "carriers": FeatureView("carrier", **view)}
    return replace(make_contract("binary"), views=views)


def test_keys_are_all_texts_that_a_row_may_carry_besides_its_features() -> None:
    assert key_names(make_contract("binary")) == ("flight_id",)
    assert key_names(with_entities()) == ("tail", "flight_id")


def test_rows_without_any_key_have_none() -> None:
    assert read_keys(with_entities(), [{"carrier": "AA"}, {}]) is None


def test_keys_are_read_by_name_and_absent_ones_are_empty() -> None:
    rows = [{"flight_id": "UA 1", "tail": None}, {"carrier": "AA"}, {"decided_at": NOON, "tail": "Ñ1"}]
    assert read_keys(with_entities(), rows) == Keys(
        [[b"", b"", "Ñ1".encode()], [b"UA 1", b"", b""]], [None, None, NOON_US]
    )


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"flight_id": 17}, "flight_id"),
        ({"flight_id": ""}, "flight_id"),
        ({"flight_id": ["secret"]}, "flight_id"),
        ({"tail": "sec\nret"}, "tail"),
        ({"tail": "secret" * 11}, "tail"),
        ({"decided_at": "secret"}, "decided_at"),
        ({"decided_at": 1_372_680_000}, "decided_at"),
        ({"decided_at": "2013-07-01T12:00:00"}, "decided_at"),
    ],
)
def test_what_is_no_key_is_said_by_position_and_name_and_not_repeated(row: dict[str, Any], name: str) -> None:
    with pytest.raises(RowProblems) as refused:
        read_keys(with_entities(), [{}, row])
    (sentence,) = refused.value.sentences
    assert sentence.startswith(f"rows[1]: {name!r} must be a ")
    assert not any(word in sentence for word in ("sec", "17", "1_372", "2013-07-01T12:00:00,"))


def test_many_bad_rows_make_few_sentences() -> None:
    with pytest.raises(RowProblems) as refused:
        read_keys(with_entities(), [{"tail": 1, "flight_id": 2, "decided_at": 3}] * 10_000)
    assert len(refused.value.sentences) < 10


def test_decision_time_that_is_a_feature_is_left_to_the_features() -> None:
    contract = make_contract("binary")
    contract = replace(contract, rows=replace(contract.rows, decision_time="distance"))
    assert read_keys(contract, [{"flight_id": "a", "distance": 760}]) == Keys([[b"a"]], [None])


@given(st.text(max_size=80))
def test_key_is_printable_and_short_and_is_kept_as_it_is(text: str) -> None:
    data = key_bytes(text)
    printable = text.isprintable() and text != ""
    assert (data is not None) == (printable and len(text.encode()) <= KEY_BYTES)
    if data is not None:
        # The log pads with NUL, and takes nothing for absent.
        assert data
        assert b"\0" not in data
        assert data.decode() == text


@pytest.mark.parametrize("value", [True, 0, 1.5, [], {}, "\ud800", "a\0", "a\u202e", "\x7f", "x" * 65, "é" * 33])
def test_what_is_no_key(value: Any) -> None:
    assert key_bytes(value) is None


def test_null_is_an_absent_key() -> None:
    assert key_bytes(None) == b""


@given(
    st.datetimes(datetime(1678, 1, 1), datetime(2261, 12, 31)),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
    st.sampled_from(["T", " "]),
)
def test_time_is_exact_to_the_microsecond_in_any_zone(moment: datetime, offset_min: int, between: str) -> None:
    moment = moment.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
    found = microseconds(moment.isoformat(between))
    assert found == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    # So that nanoseconds of it are 64 bits.
    assert abs(found) * 1000 < 2**63


@pytest.mark.parametrize(
    ("text", "us"),
    [
        (NOON, NOON_US),
        ("2013-07-01T14:00:00+02:00", NOON_US),
        ("2013-07-01T12:00:00.123456789Z", NOON_US + 123_456),
        ("1969-12-31T23:59:59.5Z", -500_000),
    ],
)
def test_times(text: str, us: int) -> None:
    assert microseconds(text) == us


@pytest.mark.parametrize(
    "value",
    [
        None,
        NOON_US,
        "",
        "2013-07-01",
        "2013-07-01T12:00:00",
        "2013-07-01T12:00:60Z",
        "2013-02-29T12:00:00Z",
        "2013-07-01T12:00:00 UTC",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "1677-12-31T23:59:59.9Z",
        "2262-01-01T00:00:00Z",
        f"{NOON}{' ' * 30}",
    ],
)
def test_what_is_no_time(value: Any) -> None:
    assert microseconds(value) is None
