from typing import Any

import pandas as pd
import pytest

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
from headrace.errors import DataError
from headrace.learning.validation import validate

FEATURES = (
    Feature("kind", "category", "what it is", values=("a", "b")),
    Feature("maker", "category", "who made it", values=("x", "y"), missing=True),
    Feature("count", "int", "how many", range=(0, 10)),
    Feature("load_pct", "float", "how full", unit="%", range=(0, 100), missing=True, view="load"),
    Feature("open", "bool", "whether it is open"),
)


def contract(**changed: Any) -> Contract:
    given: dict[str, Any] = {
        "model": "tiny",
        "description": "",
        "task": "binary",
        "rows": Rows("rows", "dvc.yaml", "id", "at", ("cost",)),
        "label": Label("bad", "", "known_at", LabelDelay(1, 2, 3)),
        "features": FEATURES,
        "metric": "auc",
        "business_value": BusinessValue("caught", "pieces", ""),
        "budgets": Budgets(10, 1),
        "example": dict.fromkeys(f.name for f in FEATURES),
        "views": {"load": FeatureView("site", "load.parquet", "seen", 6)},
    }
    return Contract(**given | changed)


def frame(**changed: list[Any]) -> pd.DataFrame:
    decided = pd.date_range("2020-01-01", periods=4, freq="h", tz="UTC")
    columns: dict[str, Any] = {
        "id": ["r0", "r1", "r2", "r3"],
        "at": decided,
        "known_at": decided + pd.Timedelta(hours=1),
        "site": ["s", "s", None, "t"],
        "kind": ["a", "b", "a", "b"],
        "maker": ["x", None, "never seen", "y"],
        "count": [0, 10, 3, 4],
        "load_pct": [0.0, 100.0, None, 50.0],
        "open": [True, False, True, True],
        "bad": [0.0, 1.0, 1.0, 0.0],
        "cost": [1.0, 2.0, None, 4.0],
        "remark": ["columns", "of no", "contract", "are fine"],
    }
    return pd.DataFrame(columns | changed)


def problem(data: pd.DataFrame, agreed: Contract | None = None) -> str:
    with pytest.raises(DataError) as broken:
        validate(agreed or contract(), data, "the rows")
    return str(broken.value)


def test_good_rows_pass_with_missing_values_where_allowed_and_extra_columns() -> None:
    validate(contract(), frame(), "the rows")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"id": ["r0", "r1", "r1", "r3"]}, "`id` must be unique: 2 rows, id r1"),
        ({"id": ["r0", None, "r2", "r3"]}, "`id` must not be null: 1 row"),
        ({"kind": ["a", "c", "a", "c"]}, "`kind` must be one of ['a', 'b']: 2 rows, id r1, r3"),
        ({"kind": ["a", None, "a", "b"]}, "`kind` must not be null: 1 row, id r1"),
        ({"maker": [1, "x", "x", "x"]}, "`maker` must be text: 1 row, id r0"),
        ({"count": [0, 1.5, 2, 3]}, "`count` must be whole numbers: 1 row, id r1"),
        ({"count": [11, 1, -1, 3]}, "`count` must be within 0 and 10: 2 rows, id r0, r2"),
        ({"count": [1, None, 2, 3]}, "`count` must not be null: 1 row, id r1"),
        ({"load_pct": [0, 100.5, 1, 1]}, "`load_pct` must be within 0 and 100 %: 1 row, id r1"),
        ({"load_pct": [0, float("inf"), 1, 1]}, "`load_pct` must be finite numbers: 1 row, id r1"),
        ({"load_pct": ["full", 1, 1, 1]}, "`load_pct` must be finite numbers: 1 row, id r0"),
        ({"open": [True, "yes", True, False]}, "`open` must be true or false: 1 row, id r1"),
        ({"bad": [0, 2, 1, 1]}, "`bad` must be 0 or 1: 1 row, id r1"),
        ({"bad": [0, None, 1, 1]}, "`bad` must not be null: 1 row, id r1"),
    ],
)
def test_broken_rule_names_column_rule_and_rows(changed: dict[str, list[Any]], sentence: str) -> None:
    assert sentence in problem(frame(**changed))


def test_values_are_not_in_the_message() -> None:
    assert "314159" not in problem(frame(load_pct=[314159.0, 1, 1, 1]))


def test_all_broken_rules_are_reported_with_what_to_do() -> None:
    message = problem(frame(kind=["a", "c", "a", "b"], bad=[0, 5, 1, 1]).drop(columns=["count", "cost"]))
    assert message.startswith("the rows of tiny break the contract:\n")
    for part in ("`count` is not there", "`cost` is not there", "`kind` must be", "`bad` must be"):
        assert part in message
    assert message.endswith("Correct the data, or models/tiny/contract.yaml if such values are right")


def test_only_the_first_keys_are_named() -> None:
    assert "`kind` must be one of ['a', 'b']: 4 rows, id r0, r1, r2, …" in problem(frame(kind=["c", "d", "e", "f"]))


def test_rows_are_named_by_key_whatever_the_index() -> None:
    broken = frame(count=[1, 99, 3, 4]).set_axis([7, 7, 7, 7])
    assert "1 row, id r1" in problem(broken)


def test_a_time_without_a_zone_is_refused() -> None:
    naive = frame()
    naive["at"] = naive["at"].dt.tz_localize(None)
    assert "`at` must be a time with a time zone (UTC)" in problem(naive)


def test_a_label_known_before_the_decision_is_refused() -> None:
    early = frame()
    early.loc[2, "known_at"] = early.loc[2, "at"]
    assert "the label must be known after the decision: 1 row, id r2" in problem(early)


def test_a_missing_key_column_is_said() -> None:
    assert "`id` is not there" in problem(frame(count=[1, 99, 3, 4]).drop(columns="id"))


def test_labels_of_other_tasks() -> None:
    regression = contract(task="regression", metric="rmse")
    validate(regression, frame(bad=[1.5, -2.0, 300, 0]), "the rows")
    assert "`bad` must be finite numbers" in problem(frame(bad=[1.5, float("inf"), 0, 0]), regression)
    label = Label("bad", "", "known_at", LabelDelay(1, 2, 3), classes=("low", "mid", "high"))
    classes = contract(task="multiclass", metric="accuracy", label=label)
    validate(classes, frame(bad=[0, 1, 2, 2]), "the rows")
    assert "`bad` must be the position of a class, 0 to 2: 1 row, id r1" in problem(frame(bad=[0, 3, 1, 1]), classes)
