"""Rows of a caller to bodies of requests."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeGuard, Union, cast

from headrace.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# What `predict` takes.
RowsLike = Union[Sequence[Mapping[str, Any]], Mapping[str, Any], "pd.DataFrame"]

# A service reads at most 2 MiB, which 5,000 rows of 30 features exceed.
_BODY_BYTES = 1_900_000
# Beyond it a float has no fraction to lose, and may not be the integer that it was.
_EXACT = 2**53
_PLAIN = frozenset({str, int, bool, type(None)})


@dataclass(frozen=True)
class Rows:
    """Rows ready to be sent.

    Attributes:
        encoded: each row as JSON.
        index: of the DataFrame that they were, else None.
        what: "rows" or "labels", as they are called in a body.
    """

    encoded: Sequence[str]
    index: "pd.Index[Any] | None" = None
    what: str = "rows"


@dataclass(frozen=True)
class Batch:
    """Some rows in a row.

    Attributes:
        start: position of its first row among all.
        count: how many rows it has.
        body: the request's.
    """

    start: int
    count: int
    body: bytes


def encode(rows: RowsLike, what: str = "rows") -> Rows:
    """Turn rows into JSON; what is missing (None, NaN, NaT, pandas.NA) is null.

    Args:
        rows: rows of features, or labels.
        what: which of the two, for the body and for messages.

    Raises:
        DataError: there are no rows, or something in them can't be said in JSON.
    """
    index = None
    if _is_frame(rows):
        index, found = rows.index, _records(rows)
    elif isinstance(rows, Mapping):
        found = iter([rows])
    elif isinstance(rows, Iterable) and not isinstance(rows, str | bytes):
        found = iter(cast(Iterable[Mapping[str, Any]], rows))
    else:
        raise DataError(f"{what} is a {type(rows).__name__}: give a list of mappings, a mapping, or a DataFrame")
    encoded = [_encode(f"{what}[{position}]", row) for position, row in enumerate(found)]
    if not encoded:
        raise DataError(f"there are no {what}: give at least one")
    return Rows(encoded, index, what)


def batches(rows: Rows, most_rows: int) -> Iterator[Batch]:
    """Cut rows into bodies of at most `most_rows` that a service is willing to read."""
    start, size = 0, 0
    for position, row in enumerate(rows.encoded):
        # Escaped by json.dumps: a character is a byte.
        if position > start and (position - start == most_rows or size + len(row) > _BODY_BYTES):
            yield _batch(rows, start, position)
            start, size = position, 0
        size += len(row) + 1
    yield _batch(rows, start, len(rows.encoded))


def _batch(rows: Rows, start: int, end: int) -> Batch:
    return Batch(start, end - start, (f'{{"{rows.what}":[' + ",".join(rows.encoded[start:end]) + "]}").encode())


def _is_frame(rows: Any) -> TypeGuard["pd.DataFrame"]:
    # Nobody has a DataFrame without having imported pandas, and half a second is much for those who have none.
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(rows, pandas.DataFrame)


def _records(frame: "pd.DataFrame") -> Iterator[Mapping[str, Any]]:
    if not frame.columns.is_unique:
        twice = sorted({str(name) for name in frame.columns[frame.columns.duplicated()]})
        raise DataError(f"the DataFrame has columns {twice} more than once: rename or drop them")
    names = frame.columns.tolist()
    columns = [_column(frame[name]) for name in names]
    return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))


def _column(series: "pd.Series[Any]") -> list[Any]:
    values: list[Any] = series.tolist()
    if series.dtype.kind != "f" or not series.hasnans:
        return values
    known = [value for value in values if _is_number(value)]
    if not all(abs(value) < _EXACT and value.is_integer() for value in known):
        return values
    # pandas makes floats of integers as soon as one is missing, and a service takes no 760.0 for an integer. For a
    # feature that is a float, 760 is the same number.
    return [int(value) if _is_number(value) else None for value in values]


def _is_number(value: Any) -> bool:
    # pandas.NA, in the nullable types, is no float.
    return isinstance(value, float) and not math.isnan(value)


def _encode(place: str, row: Any) -> str:
    if not isinstance(row, Mapping):
        raise DataError(f"{place} is a {type(row).__name__}: it has to be a mapping of name to value")
    return json.dumps({_name(place, name): _value(place, name, value) for name, value in row.items()})


def _name(place: str, name: Any) -> str:
    if not isinstance(name, str):
        raise DataError(f"{place} has the key {name!r}, a {type(name).__name__}: names are text")
    return name


def _value(place: str, name: str, value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float) and not math.isinf(value):
        return None if math.isnan(value) else float(value)
    # An array has `item` too, but more than one of them.
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return _value(place, name, value.item())
    pandas = sys.modules.get("pandas")
    if pandas is not None and (value is pandas.NA or value is pandas.NaT):
        return None
    if isinstance(value, str | int):
        return value
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    told = repr(value) if isinstance(value, float) else f"a {type(value).__name__}"
    raise DataError(
        f"{place}[{name!r}] is {told}: a value is a number, text, true, false, a time with its zone, or missing"
    )
