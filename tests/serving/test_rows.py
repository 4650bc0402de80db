import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.contract import Budgets, BusinessValue, Contract, Feature, Label, LabelDelay, Rows
from headrace.domain.encoding import row_problems
from serving.rows import RowProblems, check_columns, to_columns

FEATURES = tuple(
    Feature(
        f"{kind}_{'optional' if missing else 'required'}",
        kind,
        "A feature.",
        range=(0, 1) if kind in ("float", "int") else None,
        values=("a", "b") if kind == "category" else (),
        missing=missing,
    )
    for kind in ("float", "int", "bool", "category")
    for missing in (False, True)
)
CONTRACT = Contract(
    model="m",
    description="Every kind of feature.",
    task="binary",
    rows=Rows("rows", "stage", "key", "time"),
    label=Label("y", "The label.", "time", LabelDelay(1, 2, 3)),
    features=FEATURES,
    metric="auc",
    business_value=BusinessValue("v", "u", "d"),
    budgets=Budgets(1, 1),
    example={feature.name: None for feature in FEATURES},
)
GOOD = {"float": 0.5, "int": 3, "bool": True, "category": "a"}
GOOD_ROW = {feature.name: GOOD[feature.type] for feature in FEATURES}

# What a JSON decoder gives, and the edges of float32 and of the integers.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([3.4028234663852886e38, 3.402823466385289e38, -3.5e38, "a", "b", "c", "", [], {}, [1.0], {"a": 1}]),
    st.text("ab\x00é", max_size=3),
)
NAMES = st.sampled_from([*GOOD_ROW, "unknown"])
CHANGES = st.dictionaries(NAMES, VALUES, max_size=3)
ROWS = st.lists(st.tuples(CHANGES, st.sets(st.sampled_from(list(GOOD_ROW)), max_size=2)), min_size=1, max_size=8)


@given(ROWS)
def test_accepts_exactly_the_rows_in_which_the_contract_finds_no_problem(drawn):
    rows = [{n: v for n, v in (GOOD_ROW | changes).items() if n not in gone} for changes, gone in drawn]
    bad = [position for position, row in enumerate(rows) if row_problems(CONTRACT, row)]
    try:
        columns = to_columns(CONTRACT, rows)
    except RowProblems as problems:
        named = sorted({int(sentence[5 : sentence.index("]")]) for sentence in problems.sentences})
        assert named == bad[:5]
    else:
        assert not bad
        assert columns == {name: [row.get(name) for row in rows] for name in GOOD_ROW}


NUMBERS = tuple(feature.name for feature in FEATURES if feature.type in ("float", "int"))
DOUBLES = st.one_of(
    st.floats(), st.sampled_from([3.0, -0.0, 3.4028234663852886e38, 3.402823466385289e38, -3.5e38, 2.0**63])
)


@given(st.integers(1, 6).flatmap(lambda n: st.tuples(*[st.lists(DOUBLES, min_size=n, max_size=n) for _ in NUMBERS])))
def test_accepts_exactly_the_arrays_in_whose_rows_the_contract_finds_no_problem(drawn):
    columns = {name: [value] * len(drawn[0]) for name, value in GOOD_ROW.items()}
    columns["bool_required"] = np.ones(len(drawn[0]))
    columns |= {name: np.array(values) for name, values in zip(NUMBERS, drawn, strict=True)}
    rows = [
        GOOD_ROW | {name: None if np.isnan(v) else v for name, v in zip(NUMBERS, values, strict=True)}
        for values in zip(*drawn, strict=True)
    ]
    expected = [f"rows[{i}]: {problem}" for i, row in enumerate(rows) for problem in row_problems(CONTRACT, row)]
    found: list[str] = []
    try:
        check_columns(CONTRACT, columns)
    except RowProblems as problems:
        found = problems.sentences
    assert found == [sentence for sentence in expected if row_of(sentence) in first_few(expected)]


def row_of(sentence: str) -> int:
    return int(sentence[5 : sentence.index("]")])


def first_few(sentences: list[str]) -> list[int]:
    return sorted(set(map(row_of, sentences)))[:5]
