"""Bodies of complete, valid rows to the model's matrix, in one pass over their bytes.

Checked while it is decoded, by a decoder that is made from the contract. It accepts only what `parse_rows` and
`to_columns` accept, and then gives the same matrix; whatever else a body is, they say. A property test compares.
"""

import array
import math
from collections.abc import Callable
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, Literal, Union

import msgspec
import numpy as np
from msgspec import UNSET, Meta

from headrace.domain.contract import Contract, Feature
from headrace.domain.encoding import Matrix
from serving.keys import Keys, key_bytes, key_names, microseconds
from serving.limits import Limits
from serving.rows import FLOAT32_MAX

_NUMBER = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
# 760.0 is the integer 760, in both ways to read a row.
_WHOLE = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX, multiple_of=1.0)]


class NotPlain(Exception):
    """The body is something else than complete, valid rows of moderate number."""


class RowDecoder:
    """Decodes the bodies of one contract.

    Args:
        contract: what a row has to be.
        limits: of the rows.
        completes: whether features of views that are absent are to be looked up; such rows are not plain.
    """

    def __init__(self, contract: Contract, limits: Limits, completes: bool) -> None:
        self._most_brackets = 2 * limits.rows + 2
        extras = list(contract.row_extras)
        fields = [_field(feature, completes) for feature in contract.features]
        fields += [(name, Union[str, None], None) for name in extras]  # noqa: UP007 - msgspec is given a value
        row = msgspec.defstruct("Row", sorted(fields, key=len), forbid_unknown_fields=True, gc=False)
        rows = Annotated[list[row], Meta(min_length=1, max_length=limits.rows)]  # type: ignore[valid-type]
        body = msgspec.defstruct("Body", [("rows", rows)], forbid_unknown_fields=True, gc=False)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(body).decode
        self._features = _getter(contract.feature_names)
        self._extras = _getter(extras) if extras else None
        self._key_count = len(key_names(contract))
        self._categories = [
            (column, {value: float(code) for code, value in enumerate(feature.values)})
            for column, feature in enumerate(contract.features)
            if feature.type == "category"
        ]
        self._width = len(contract.features)
        self._completes = completes

    def decode(self, body: bytes) -> tuple[Matrix, Keys | None]:
        """The rows of a body, and their keys.

        Raises:
            NotPlain: leave it to `parse_rows`.
        """
        if body.count(b"{") > self._most_brackets:
            raise NotPlain
        try:
            rows = self._decode(body).rows
        except (msgspec.MsgspecError, UnicodeDecodeError) as other:
            raise NotPlain from other
        flat: list[Any] = list(chain.from_iterable(map(self._features, rows)))
        if self._completes and UNSET in flat:
            raise NotPlain
        for column, codes in self._categories:
            flat[column :: self._width] = [codes.get(value, math.nan) for value in flat[column :: self._width]]
        if None in flat:
            flat = [math.nan if value is None else value for value in flat]
        matrix = np.frombuffer(array.array("f", flat), dtype=np.float32).reshape(len(rows), self._width)
        return matrix, self._keys(rows) if self._extras else None

    def _keys(self, rows: list[Any]) -> Keys | None:
        assert self._extras is not None  # noqa: S101 - the caller has looked
        values = list(map(self._extras, rows))
        if all(value is None for value in chain.from_iterable(values)):
            return None
        columns = list(zip(*values, strict=True))
        texts = [[key_bytes(value) for value in column] for column in columns[: self._key_count]]
        if any(text is None for text in chain.from_iterable(texts)):
            raise NotPlain
        moments = columns[self._key_count] if len(columns) > self._key_count else [None] * len(rows)
        times = [microseconds(moment) for moment in moments]
        if any(time is None and moment is not None for time, moment in zip(times, moments, strict=True)):
            raise NotPlain
        return Keys(texts, times)  # type: ignore[arg-type]


def _getter(names: Any) -> Any:
    """attrgetter gives a bare value for one name and a tuple for several; this is a tuple for any number."""
    if len(names) > 1:
        return attrgetter(*names)
    (name,) = names
    return lambda row: (getattr(row, name),)


def _field(feature: Feature, completes: bool) -> tuple[Any, ...]:
    kind: Any
    match feature.type:
        case "float":
            kind = _NUMBER
        case "int":
            kind = _WHOLE
        case "bool":
            kind = bool
        case "category":
            # A word that is not in the contract counts as missing where missing is allowed.
            kind = str if feature.missing else Literal[feature.values]
    if feature.missing:
        kind = Union[kind, None]  # noqa: UP007 - Annotated types have no |
    if completes and feature.view is not None:
        return feature.name, Union[kind, msgspec.UnsetType], UNSET  # noqa: UP007
    return (feature.name, kind, None) if feature.missing else (feature.name, kind)
