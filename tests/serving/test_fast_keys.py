"""Keys in plain bodies, where columns of a project's tables share their names: both ways read the same."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from headrace.domain.contract import Contract, FeatureView
from headrace.domain.encoding import encode
from serving.bodies import parse_rows
from serving.fast_rows import NotPlain, RowDecoder
from serving.keys import Keys, read_keys
from serving.limits import Limits
from serving.rows import to_columns
from tests.serving.completing import contract as with_views

LIMITS = Limits()
ROW = {"origin": "JFK", "delay_min": 1.5, "flight_count": 3, "seat_count": 100, "is_leased": False, "maker": "Airbus"}
TIME = "2013-07-01T12:00:00Z"
NAMES = ("tail", "flight", "at", "origin")


def named(entity: str, key: str, time: str) -> Contract:
    """A contract whose planes are joined by `entity`, and whose rows have these columns."""
    made = with_views()
    planes: FeatureView = replace(made.views["planes"], entity=entity)
    rows = replace(made.rows, key=key, decision_time=time)
    return replace(made, rows=rows, views=dict(made.views) | {"planes": planes})


def fast(contract: Contract, body: bytes) -> Keys | None:
    matrix, keys = RowDecoder(contract, LIMITS, 10, completes=True).decode(body)
    rows = parse_rows(body, LIMITS)
    assert matrix.tobytes() == encode(contract, to_columns(contract, rows)).tobytes()
    assert keys == read_keys(contract, rows)
    return keys


@pytest.mark.parametrize("names", [*itertools.product(NAMES, repeat=3)], ids="-".join)
def test_keys_are_read_alike_whichever_of_them_have_one_name(names: tuple[str, str, str]) -> None:
    contract = named(*names)
    extras: dict[str, Any] = {
        name: TIME if kind == "time" else f"a {name}" for name, kind in contract.row_extras.items()
    }
    keys = fast(contract, json.dumps({"rows": [ROW | extras, ROW]}).encode())
    assert (keys is None) == (not extras)
    for name, kind in contract.row_extras.items():
        # What is no time, and what is no key.
        for wrong in ("N1", "") if kind == "time" else ("a\n", ""):
            with pytest.raises(NotPlain):
                fast(contract, json.dumps({"rows": [ROW | extras | {name: wrong}]}).encode())
