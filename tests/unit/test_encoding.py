import math
from typing import Any

import numpy as np
import pytest

from headrace.domain.contract import (
    Budgets,
    BusinessValue,
    Contract,
    Feature,
    Label,
    LabelDelay,
    Rows,
)
from headrace.domain.encoding import encode, row_problems

FEATURES = (
    Feature("kind", "category", "what it is", values=("a", "b")),
    Feature("maker", "category", "who made it", values=("x", "y", "z"), missing=True),
    Feature("count", "int", "how many", range=(0, 10)),
    Feature("level", "float", "how high", range=(0, 1), missing=True),
    Feature("open", "bool", "whether it is open"),
)
ROW: dict[str, Any] = {"kind": "b", "maker": "z", "count": 3, "level": 0.5, "open": True}
CONTRACT = Contract(
    model="tiny",
    description="",
    task="binary",
    rows=Rows("rows", "dvc.yaml", "id", "at"),
    label=Label("bad", "", "known_at", LabelDelay(1, 2, 3)),
    features=FEATURES,
    metric="auc",
    business_value=BusinessValue("caught", "pieces", ""),
    budgets=Budgets(10, 1),
    example=ROW,
)


def columns(**changed: list[Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in ROW.items()} | changed


def test_matrix_is_in_contract_order_whatever_the_order_of_the_columns() -> None:
    shuffled = dict(reversed(columns().items()))
    assert encode(CONTRACT, shuffled).tolist() == [[1.0, 2.0, 3.0, 0.5, 1.0]]


def test_matrix_is_float32_and_contiguous() -> None:
    matrix = encode(CONTRACT, columns())
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous


@pytest.mark.parametrize("missing", [None, math.nan, "never seen"])
def test_missing_and_unknown_categories_are_nan(missing: Any) -> None:
    assert np.isnan(encode(CONTRACT, columns(maker=[missing]))[0, 1])


def test_missing_number_is_nan_in_lists_and_arrays() -> None:
    assert np.isnan(encode(CONTRACT, columns(level=[None]))[0, 3])
    assert np.isnan(encode(CONTRACT, columns() | {"level": np.array([math.nan])})[0, 3])  # type: ignore[dict-item]


def test_missing_column_is_an_error() -> None:
    given = columns()
    del given["count"]
    with pytest.raises(KeyError, match="count"):
        encode(CONTRACT, given)


def test_complete_row_has_no_problem() -> None:
    assert row_problems(CONTRACT, ROW) == []


def test_out_of_range_is_not_a_problem_of_the_row() -> None:
    assert row_problems(CONTRACT, ROW | {"count": 11, "level": -3}) == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"kind": "c"}, "'kind' must be one of ['a', 'b']"),
        ({"kind": None}, "'kind' must not be null"),
        ({"kind": 1}, "'kind' must be a string"),
        ({"count": 1.5}, "'count' must be an integer"),
        ({"count": True}, "'count' must be an integer"),
        ({"count": math.nan}, "'count' must be finite and within ±3.4e38"),
        ({"count": 1e39}, "'count' must be finite and within ±3.4e38"),
        ({"count": 10**400}, "'count' must be finite and within ±3.4e38"),
        ({"level": math.nan}, "'level' must be finite and within ±3.4e38"),
        ({"level": math.inf}, "'level' must be finite and within ±3.4e38"),
        ({"level": 1e39}, "'level' must be finite and within ±3.4e38"),
        ({"level": "0.5"}, "'level' must be a number"),
        ({"open": 1}, "'open' must be true or false"),
        ({"colour": "red"}, "'colour' is not a feature of tiny"),
    ],
)
def test_wrong_value_is_one_sentence(changed: dict[str, Any], problem: str) -> None:
    assert row_problems(CONTRACT, ROW | changed) == [problem]


@pytest.mark.parametrize("whole", [3.0, -0.0, 1e20])
def test_whole_float_is_an_integer(whole: float) -> None:
    assert row_problems(CONTRACT, ROW | {"count": whole}) == []


def test_only_features_that_may_be_missing_can_be_left_out() -> None:
    assert row_problems(CONTRACT, {"kind": "a", "count": 1, "open": False}) == []
    assert row_problems(CONTRACT, {"kind": "a", "open": False}) == ["'count' is required"]


def test_unknown_category_counts_as_missing_where_missing_is_allowed() -> None:
    assert row_problems(CONTRACT, ROW | {"maker": "new"}) == []
