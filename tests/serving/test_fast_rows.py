"""Whatever the fast decoder accepts, the ordinary way reads as the very same matrix and keys; and it accepts enough."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from headrace.domain.contract import (
    Budgets,
    BusinessValue,
    Contract,
    Feature,
    FeatureView,
    Label,
    LabelDelay,
    Rows,
)
from headrace.domain.encoding import encode
from serving.bodies import parse_rows
from serving.fast_rows import NotPlain, RowDecoder
from serving.keys import read_keys
from serving.limits import Limits
from serving.rows import to_columns
from tests.serving.plain_bodies import NUMBERS, OTHERS, SOUND_NUMBERS, TIMES, WORDS

LIMITS = Limits(rows=20)
MANY = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])

NAMES = st.one_of(
    st.sampled_from(["class", "from", "f0", "f1", "rows", "self", "none", "a", "wind_speed", "x1"]),
    st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True),
)
# Entities and keys are columns of the project's tables: no rule says what they are called.
COLUMNS = st.one_of(NAMES, st.sampled_from(["flight id", "a.b", "Tail-Nr", "née", "f2", "", "__x", "Ω", "1"]))
CATEGORIES = st.one_of(
    st.sampled_from([("AA", "DL"), ("",), ('"', "\\", "\n"), ("é", "e\u0301"), ("\x00", "😀"), ("null", "true", "0")]),
    st.lists(st.text(max_size=3), min_size=1, max_size=3, unique=True).map(tuple),
)


@st.composite
def contracts(draw: Any) -> Contract:
    """A contract with any types, names, keys and views."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    features = tuple(draw(features_named(name)) for name in names)
    used = {feature.view for feature in features if feature.view}
    # They may be features, or one another's.
    columns = st.one_of(COLUMNS, st.sampled_from(names))
    key, time, entity = draw(columns), draw(columns), draw(columns)
    return Contract(
        model="m",
        description="",
        task="regression",
        rows=Rows("rows", "stage", key, time),
        label=Label("y", "", "known", LabelDelay(1, 2, 3)),
        features=features,
        metric="rmse",
        business_value=BusinessValue("v", "u", "d"),
        budgets=Budgets(1, 1),
        example=dict.fromkeys(names),
        views={view: FeatureView(entity, "s", "t", 1.0) for view in used},
    )


@st.composite
def features_named(draw: Any, name: str) -> Feature:
    kind = draw(st.sampled_from(["float", "int", "bool", "category"]))
    return Feature(
        name,
        kind,
        "",
        range=(0, 1) if kind in ("float", "int") else None,
        values=draw(CATEGORIES) if kind == "category" else (),
        missing=draw(st.booleans()),
        view=draw(st.sampled_from([None, None, "view"])),
    )


def said(word: str) -> st.SearchStrategy[bytes]:
    """A text as JSON may hold it."""
    escaped = "".join(f"\\u{unit:04x}" for unit in np.frombuffer(word.encode("utf-16-le"), "<u2"))
    forms = [json.dumps(word).encode(), json.dumps(word, ensure_ascii=False).encode(), f'"{escaped}"'.encode()]
    return st.sampled_from(forms)


def sound_values(feature: Feature) -> st.SearchStrategy[bytes]:
    """What the contract allows."""
    kinds = {
        "float": SOUND_NUMBERS,
        "int": st.one_of(st.integers(-(2**80), 2**80).map(b"%d".__mod__), st.sampled_from([b"7e2", b"-0", b"1.0"])),
        "bool": st.sampled_from([b"true", b"false"]),
        "category": st.sampled_from(feature.values or ("",)).flatmap(said),
    }
    value = kinds[feature.type]
    if feature.type == "category" and feature.missing:
        value = st.one_of(value, st.text(max_size=3).flatmap(said))
    return st.one_of(value, st.just(b"null")) if feature.missing else value


SOUND_EXTRAS = {
    "key": st.one_of(st.just(b"null"), st.from_regex(r"[A-Za-z0-9é ]{1,9}", fullmatch=True).flatmap(said)),
    "time": st.sampled_from([b"null", b'"2013-07-01T12:00:00Z"', b'"2013-07-01T12:00:00.123456-05:30"']),
}
NEARLY = {"float": NUMBERS, "int": NUMBERS, "bool": OTHERS, "category": WORDS, "key": WORDS, "time": TIMES}


@st.composite
def rows_of(draw: Any, contract: Contract, sound: bool) -> bytes:
    pairs = [(feature.name, draw(sound_values(feature))) for feature in contract.features]
    optional = {feature.name for feature in contract.features if feature.missing and feature.view is None}
    gone = draw(st.sets(st.sampled_from(sorted(optional)))) if optional else set()
    pairs = [pair for pair in pairs if pair[0] not in gone]
    for name, kind in contract.row_extras.items():
        if draw(st.booleans()):
            pairs.append((name, draw(SOUND_EXTRAS[kind])))
    pairs = draw(st.permutations(pairs))
    if not sound:
        kinds = {feature.name: feature.type for feature in contract.features} | dict(contract.row_extras)
        name = draw(st.sampled_from(sorted(kinds)))
        # The last of two equal keys counts.
        pairs.append((name, draw(st.one_of(NEARLY[kinds[name]], NEARLY[kinds[name]], OTHERS))))
        if draw(st.booleans()):
            pairs.append((draw(COLUMNS), draw(OTHERS)))
    return b"{" + b",".join(json.dumps(name).encode() + b":" + value for name, value in pairs) + b"}"


def compare(contract: Contract, body: bytes, completes: bool) -> bool:
    """Whether the decoder accepts a body; if so, both ways have to read the same."""
    try:
        matrix, keys = RowDecoder(contract, LIMITS, LIMITS.rows, completes).decode(body)
    except NotPlain:
        return False
    rows = parse_rows(body, LIMITS)
    assert keys == read_keys(contract, rows)
    expected = encode(contract, to_columns(contract, rows))
    assert (matrix.dtype, matrix.shape) == (expected.dtype, expected.shape)
    # As bits: NaN has to be the same NaN, and zero to have the same sign.
    assert matrix.view(np.uint32).tolist() == expected.view(np.uint32).tolist()
    return True


@MANY
@given(st.data(), contracts(), st.booleans())
def test_rows_that_are_complete_and_valid_are_accepted_and_read_alike(data, contract, completes):
    rows = data.draw(st.lists(rows_of(contract, sound=True), min_size=1, max_size=4))
    assume(sum(row.count(b"[") + row.count(b"{") for row in rows) <= len(rows))
    assert compare(contract, b'{"rows":[' + b",".join(rows) + b"]}", completes)


@MANY
@given(st.data(), contracts(), st.booleans())
def test_whatever_is_accepted_is_read_alike(data, contract, completes):
    rows = data.draw(st.lists(rows_of(contract, sound=False), min_size=1, max_size=3))
    compare(contract, b'{"rows":[' + b",".join(rows) + b"]}", completes)


def contract_of(*features: Feature, **more: Any) -> Contract:
    views = {feature.view: FeatureView("tail", "s", "t", 1.0) for feature in features if feature.view}
    return Contract(
        model="m",
        description="",
        task="regression",
        rows=Rows("rows", "stage", more.get("key", "key"), "time"),
        label=Label("y", "", "known", LabelDelay(1, 2, 3)),
        features=features,
        metric="rmse",
        business_value=BusinessValue("v", "u", "d"),
        budgets=Budgets(1, 1),
        example={feature.name: None for feature in features},
        views=views,
    )


NUMBER = Feature("number", "float", "", range=(0, 1))
WHOLE = Feature("whole", "int", "", range=(0, 1))
NOT_FLOAT32 = [b"3.402823466385289e38", b"-3.402823466385289e38", b"1e39", b"1e400", b"NaN", b"Infinity", b"9" * 40]


@pytest.mark.parametrize("value", [*NOT_FLOAT32, b"null", b'"1"', b"true", b"[1]", b"01", b"1.", b"- 1"])
@pytest.mark.parametrize("feature", [NUMBER, WHOLE], ids=["float", "int"])
def test_what_is_no_float32_is_not_plain(feature, value):
    body = b'{"rows":[{"%s":%s}]}' % (feature.name.encode(), value)
    with pytest.raises(NotPlain):
        RowDecoder(contract_of(feature), LIMITS, 20, completes=False).decode(body)


@pytest.mark.parametrize("value", [b"760.5", b"1e-1", b"0.1", b"-0.5"])
def test_part_of_an_integer_is_not_plain(value):
    with pytest.raises(NotPlain):
        RowDecoder(contract_of(WHOLE), LIMITS, 20, completes=False).decode(b'{"rows":[{"whole":%s}]}' % value)


def test_rows_that_want_completing_are_not_plain_and_others_are():
    viewed = Feature("viewed", "float", "", range=(0, 1), missing=True, view="view")
    contract = contract_of(NUMBER, viewed)
    body = b'{"rows":[{"number":1,"tail":"N1"}]}'
    with pytest.raises(NotPlain):
        RowDecoder(contract, LIMITS, 20, completes=True).decode(body)
    assert compare(contract, body, completes=False)
    assert compare(contract, b'{"rows":[{"number":1,"viewed":null,"tail":"N1"}]}', completes=True)


def test_as_many_rows_are_plain_as_is_said_and_as_the_limit_allows():
    rows = b'{"rows":[' + b",".join([b'{"number":1}'] * 3) + b"]}"
    contract = contract_of(NUMBER)
    assert len(RowDecoder(contract, LIMITS, 3, completes=False).decode(rows)[0]) == 3
    for limits, most in ((LIMITS, 2), (Limits(rows=2), 20)):
        with pytest.raises(NotPlain):
            RowDecoder(contract, limits, most, completes=False).decode(rows)


def test_key_that_msgspec_can_not_look_for_is_said_when_the_decoder_is_made():
    with pytest.raises(ValueError, match="must not contain"):
        RowDecoder(contract_of(NUMBER, key='a"b'), LIMITS, 20, completes=False)
