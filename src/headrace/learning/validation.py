"""Data against the contract: a pandera schema generated from it, and its findings as sentences."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.domain.contract import Contract, Feature
from headrace.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_SHOWN_KEYS = 3
_RULES = {
    "not_nullable": "must not be null",
    "field_uniqueness": "must be unique",
    "column_in_dataframe": "is not there",
}
_EARLY = "the label must be known after the decision"


def validate(contract: Contract, frame: "pd.DataFrame", where: str) -> None:
    """Check labelled rows with all their features; columns that the contract does not name are ignored.

    A category outside `values` counts as missing, as in `headrace.domain.encoding`.

    Args:
        contract: what has to hold.
        frame: the rows.
        where: what the rows are, for the message.

    Raises:
        DataError: every rule that does not hold, with its column, the number of rows and the keys of the first few.
    """
    from pandera.errors import SchemaErrors

    numbered = frame.reset_index(drop=True)
    try:
        _schema(contract).validate(numbered, lazy=True)
    except SchemaErrors as broken:
        findings = _findings(contract, numbered, broken.failure_cases)
        raise DataError(
            f"{where} of {contract.model} break the contract:\n"
            + "\n".join(f"  {finding}" for finding in findings)
            + f"\nCorrect the data, or models/{contract.model}/contract.yaml if such values are right"
        ) from None


def _schema(contract: Contract) -> Any:
    import pandera.pandas as pa

    rows, label = contract.rows, contract.label
    columns = {name: pa.Column(nullable=True) for name in (*contract.entities, *rows.value_columns)}
    columns |= {f.name: pa.Column(nullable=f.missing, checks=_feature_checks(f)) for f in contract.features}
    columns |= {
        rows.key: pa.Column(unique=True),
        rows.decision_time: pa.Column(checks=[_moment()]),
        label.time: pa.Column(checks=[_moment()]),
        label.name: pa.Column(checks=_label_checks(contract)),
    }
    return pa.DataFrameSchema(columns, checks=[_check(_known_later(contract), _EARLY)])


def _check(holds: Callable[[Any], Any], rule: str) -> Any:
    import pandera.pandas as pa

    return pa.Check(holds, error=rule)


def _moment() -> Any:
    import pandas as pd

    return _check(lambda values: isinstance(values.dtype, pd.DatetimeTZDtype), "must be a time with a time zone (UTC)")


def _known_later(contract: Contract) -> Callable[["pd.DataFrame"], Any]:
    decided, known = contract.rows.decision_time, contract.label.time

    def holds(frame: "pd.DataFrame") -> Any:
        # Where a time is missing or none, its own column's rules say so.
        if {decided, known} - set(frame.columns) or frame[decided].dtype != frame[known].dtype:
            return True
        return (frame[known] > frame[decided]) | frame[known].isna() | frame[decided].isna()

    return holds


def _feature_checks(feature: Feature) -> list[Any]:
    match feature.type:
        case "category":
            return _category_checks(feature)
        case "bool":
            return [_check(lambda values: values.isin([True, False]), "must be true or false")]
        case "int":
            whole = _check(lambda values: _numbers(values) % 1 == 0, "must be whole numbers")
            return [_is_number(), whole, *_range_checks(feature)]
        case "float":
            return [_is_number(), *_range_checks(feature)]


def _category_checks(feature: Feature) -> list[Any]:
    text = _check(lambda values: values.map(lambda value: isinstance(value, str)), "must be text")
    if feature.missing:
        return [text]
    return [text, _check(lambda values: values.isin(feature.values), f"must be one of {list(feature.values)}")]


def _range_checks(feature: Feature) -> list[Any]:
    if feature.range is None:
        return []
    lowest, highest = feature.range
    rule = f"must be within {lowest:g} and {highest:g} {feature.unit}".rstrip()
    # What is no number has a rule of its own.
    return [_check(lambda values: _numbers(values).between(lowest, highest) | _numbers(values).isna(), rule)]


def _label_checks(contract: Contract) -> list[Any]:
    match contract.task:
        case "binary":
            return [_check(lambda values: _numbers(values).isin([0, 1]), "must be 0 or 1")]
        case "multiclass":
            count = len(contract.label.classes)
            rule = f"must be the position of a class, 0 to {count - 1}"
            return [_check(lambda values: _numbers(values).isin(range(count)), rule)]
        case "regression":
            return [_is_number()]


def _is_number() -> Any:
    return _check(lambda values: _numbers(values).abs() < float("inf"), "must be finite numbers")


def _numbers(values: "pd.Series[Any]") -> "pd.Series[float]":
    import pandas as pd

    return pd.to_numeric(values, errors="coerce").astype(float)


def _findings(contract: Contract, frame: "pd.DataFrame", cases: "pd.DataFrame") -> list[str]:
    findings = []
    for (column, rule), part in cases.groupby(["column", "check"], sort=False, dropna=False):
        if rule == "column_in_dataframe":
            findings += [f"`{name}` {_RULES[rule]}" for name in part["failure_case"]]
            continue
        # Rules over several columns are reported once for each of them.
        name = "" if rule == _EARLY or not isinstance(column, str) else f"`{column}` "
        findings.append(f"{name}{_RULES.get(str(rule), str(rule))}{_rows(contract, frame, part['index'])}")
    return list(dict.fromkeys(findings))


def _rows(contract: Contract, frame: "pd.DataFrame", index: "pd.Series[Any]") -> str:
    positions = sorted(set(index.dropna().astype(int)))
    if not positions:
        return ""
    count = f"{len(positions)} row" + ("s" if len(positions) != 1 else "")
    if contract.rows.key not in frame.columns:
        return f": {count}"
    keys = list(dict.fromkeys(str(key) for key in frame[contract.rows.key].iloc[positions]))
    return f": {count}, {contract.rows.key} {', '.join(keys[:_SHOWN_KEYS])}{', …' if len(keys) > _SHOWN_KEYS else ''}"
