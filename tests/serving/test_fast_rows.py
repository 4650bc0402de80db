"""What the decoder of plain bodies accepts is what the ordinary way accepts, and becomes the same matrix and keys."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.domain.contract import Contract, Feature, FeatureView
from headrace.domain.encoding import encode
from serving.bodies import parse_rows
from serving.fast_rows import NotPlain, RowDecoder
from serving.keys import Keys, read_keys
from serving.limits import Limits
from serving.rows import to_columns
from tests.serving.completing import contract as with_views
from tests.serving.conftest import make_contract
from tests.serving.plain_bodies import NUMBERS, OTHERS, TIMES, VALUES, WORDS, damaged, row_bodies

MANY = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
LIMITS = Limits()
CONTRACT = make_contract("binary")
MOST_ROWS = 200
COMPLETE = {
    "origin": "JFK",
    "delay_min": 1.5,
    "flight_count": 3,
    "seat_count": 100,
    "is_leased": False,
    "maker": "Airbus",
}


def ordinary(contract: Contract, body: bytes) -> tuple[np.ndarray, Keys | None]:
    rows = parse_rows(body, LIMITS)
    return encode(contract, to_columns(contract, rows)), read_keys(contract, rows)


def check(contract: Contract, body: bytes, completes: bool = False) -> bool:
    """Whether the fast way takes the body; if so, both ways give the same."""
    try:
        matrix, keys = RowDecoder(contract, LIMITS, MOST_ROWS, completes).decode(body)
    except NotPlain:
        return False
    expected, expected_keys = ordinary(contract, body)
    assert matrix.dtype == expected.dtype
    assert matrix.shape == expected.shape
    # As integers: NaN is equal to itself, and -0.0 is not 0.0.
    assert matrix.view(np.uint32).tolist() == np.ascontiguousarray(expected).view(np.uint32).tolist()
    assert keys == expected_keys
    return True


@MANY
@given(row_bodies())
def test_accepted_bodies_are_the_ordinary_ways_matrix_and_keys(body: bytes) -> None:
    check(CONTRACT, body)


# Names that JSON writes with an escape are no feature's, but may be a key's.
KEY_NAMES = st.sampled_from(["tail", "key", "rows", "f0", "id", "class", "ü", "a b", "None", "__init__", "x" * 80])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=4)


@st.composite
def features(draw: Any, name: str) -> Feature:
    kind = draw(st.sampled_from(["float", "int", "bool", "category"]))
    view = draw(st.sampled_from([None, None, "v"]))
    return Feature(
        name,
        kind,
        "",
        range=(0, 1) if kind in ("float", "int") else None,
        values=tuple(draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True))) if kind == "category" else (),
        missing=draw(st.booleans()),
        view=view,
    )


@st.composite
def contracts(draw: Any) -> Contract:
    """Any features, with or without a view; the row's key and the decision time may be features, or one another's."""
    names = draw(st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,3}", fullmatch=True), min_size=1, max_size=6, unique=True))
    found = tuple(draw(features(name)) for name in names)
    entity, key, time = draw(st.tuples(*[st.one_of(KEY_NAMES, st.sampled_from(names))] * 3))
    made = replace(
        CONTRACT,
        features=found,
        rows=replace(CONTRACT.rows, key=key, decision_time=time),
        example=dict.fromkeys(names),
        views={"v": FeatureView(entity, source="x.parquet", time="at", max_age_h=1.0)}
        if any(feature.view for feature in found)
        else {},
    )
    return made


KINDS = {"float": NUMBERS, "int": NUMBERS, "bool": st.sampled_from([b"true", b"false"])}


@st.composite
def asked(draw: Any) -> tuple[Contract, bytes]:
    """A contract, and a body that mostly fits it."""
    contract = draw(contracts())
    kinds = {}
    for feature in contract.features:
        words = st.sampled_from([json.dumps(value).encode() for value in feature.values] or [b"null"])
        kinds[feature.name] = KINDS.get(feature.type, st.one_of(words, WORDS) if feature.missing else words)
    extras = {name: WORDS if kind == "key" else TIMES for name, kind in contract.row_extras.items()}
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        pairs = {name: draw(kind) for name, kind in kinds.items()}
        pairs |= {name: draw(one) for name, one in extras.items() if draw(st.booleans())}
        if not draw(st.integers(0, 5)):
            pairs[draw(st.sampled_from([*pairs]))] = draw(st.one_of(OTHERS, VALUES))
        rows.append(b"{" + b",".join(json.dumps(name).encode() + b":" + value for name, value in pairs.items()) + b"}")
    return contract, draw(damaged(b'{"rows":[' + b",".join(rows) + b"]}"))


@MANY
@given(asked(), st.booleans())
def test_accepted_bodies_of_any_contract_are_the_ordinary_ways_matrix_and_keys(
    drawn: tuple[Contract, bytes], completes: bool
) -> None:
    check(*drawn, completes)


def body_of(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"rows": rows}).encode()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"distance": 760.0},
        {"wind_speed": 12},
        {"wind_speed": 3.4028234663852886e38},
        {"wind_speed": -0.0},
        {"gate": "no such gate"},
        {"flight_id": "UA 1"},
        {"flight_id": None, "decided_at": None},
        {"decided_at": "2013-07-01T12:00:00Z"},
    ],
)
def test_valid_rows_are_plain(make_rows: Callable[..., list[dict[str, Any]]], change: dict[str, Any]) -> None:
    """Else the tests above would compare nothing."""
    assert check(CONTRACT, body_of(*make_rows(3), make_rows(1)[0] | change))


def test_optional_features_that_are_absent_are_plain(make_rows: Callable[..., list[dict[str, Any]]]) -> None:
    (row,) = make_rows(1)
    del row["gate"], row["recent_delay"]
    assert check(CONTRACT, body_of(row))


@pytest.mark.parametrize(
    "change",
    [
        {"distance": 760.5},
        {"wind_speed": 3.402823466385289e38},
        {"wind_speed": "12.5"},
        {"wind_speed": True},
        {"is_holiday": 1},
        {"carrier": "XX"},
        {"weather": 1},
        {"flight_id": 17},
        {"flight_id": "a\n"},
        {"flight_id": "x" * 65},
        {"decided_at": "2013-07-01"},
        {"gate": {}},
    ],
)
def test_rows_that_are_refused_are_not_plain(
    make_rows: Callable[..., list[dict[str, Any]]], change: dict[str, Any]
) -> None:
    assert not check(CONTRACT, body_of(make_rows(1)[0] | change))


def test_more_rows_than_are_answered_on_the_loop_are_not_plain(
    make_rows: Callable[..., list[dict[str, Any]]],
) -> None:
    assert check(CONTRACT, body_of(*make_rows(MOST_ROWS)))
    assert not check(CONTRACT, body_of(*make_rows(MOST_ROWS + 1)))


@pytest.mark.parametrize("absent", ["delay_min", "seat_count", "maker"])
def test_row_that_is_to_be_completed_is_not_plain(absent: str) -> None:
    row = dict(COMPLETE)
    contract = with_views()
    assert check(contract, body_of(row | {"tail": "N1"}), completes=True)
    del row[absent]
    assert not check(contract, body_of(row | {"tail": "N1"}), completes=True)


def test_entity_that_is_called_as_the_decision_time_is_one_time_and_no_key() -> None:
    contract = replace(with_views(), rows=replace(CONTRACT.rows, decision_time="tail"))
    assert check(contract, body_of(COMPLETE | {"flight_id": "UA 1", "tail": "2013-07-01T12:00:00Z"}))
    assert not check(contract, body_of(COMPLETE | {"tail": "N1"}))


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_key_whose_name_needs_an_escape_has_no_fast_way(name: str) -> None:
    """Rather than one that never finds it: `serving.lanes` leaves such a contract to the app."""
    contract = replace(CONTRACT, rows=replace(CONTRACT.rows, key=name))
    with pytest.raises(ValueError, match="name"):
        RowDecoder(contract, LIMITS, MOST_ROWS, completes=False)
