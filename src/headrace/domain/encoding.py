"""Rows to the one matrix that models take, the same for training and serving."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.domain.contract import Contract, Feature

Matrix = NDArray[np.float32]


def encode(contract: Contract, columns: Mapping[str, Sequence[Any]]) -> Matrix:
    """Encode columns by the contract.

    Args:
        contract: says the features and their order.
        columns: feature name to its values, all of one length n_rows. None and NaN are missing.

    Returns:
        float32 matrix (n_rows, n_features) in contract order; categories are positions in `values`, missing is NaN.

    Raises:
        KeyError: a feature has no column.
    """
    encoded = [_encode_column(feature, columns[feature.name]) for feature in contract.features]
    return np.ascontiguousarray(np.stack(encoded, axis=1), dtype=np.float32)


def _encode_column(feature: Feature, values: Sequence[Any]) -> NDArray[np.float32]:
    if feature.type == "category":
        codes = {value: float(code) for code, value in enumerate(feature.values)}
        return np.array([codes.get(value, math.nan) for value in values], dtype=np.float32)
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values.astype(np.float32)
    return np.array([math.nan if value is None else value for value in values], dtype=np.float32)


def row_problems(contract: Contract, row: Mapping[str, Any]) -> list[str]:
    """What is wrong with one row that a client sent, as sentences; empty when nothing is.

    A number outside its range is not a problem here: it is counted by the service and judged by monitoring.
    """
    problems = [f"{name!r} is not a feature of {contract.model}" for name in row if name not in contract.feature_names]
    for feature in contract.features:
        if feature.name not in row:
            if not feature.missing:
                problems.append(f"{feature.name!r} is required")
            continue
        problem = _value_problem(feature, row[feature.name])
        if problem:
            problems.append(f"{feature.name!r} {problem}")
    return problems


_EXPECTED: Mapping[str, tuple[tuple[type, ...], str]] = {
    "category": ((str,), "must be a string"),
    "bool": ((bool,), "must be true or false"),
    "int": ((int, float), "must be an integer"),
    "float": ((int, float), "must be a number"),
}


def _value_problem(feature: Feature, value: Any) -> str | None:
    if value is None:
        return None if feature.missing else "must not be null"
    kinds, expected = _EXPECTED[feature.type]
    # The very type: to Python a bool is an int, to a client true is no number.
    if type(value) not in kinds:
        return expected
    # JavaScript has one kind of number and pandas makes floats of a column with gaps: 760.0 is the integer 760.
    if feature.type == "int" and isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        return expected
    if feature.type == "category" and value not in feature.values and not feature.missing:
        return f"must be one of {list(feature.values)}"
    # A float32 holds at most 3.4e38: what does not fit would become infinite on its way into the model.
    if feature.type in ("int", "float") and not abs(value) <= _FLOAT32_MAX:
        return "must be finite and within ±3.4e38"
    return None


_FLOAT32_MAX = float(np.finfo(np.float32).max)
