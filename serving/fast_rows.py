"""Bodies of complete, valid rows to the model's matrix, in one pass over their bytes.

Checked while it is decoded, by a decoder that is made from the contract. It accepts only what `parse_rows` and
`to_columns` accept, and then gives the same matrix; whatever else a body is, they say. A property test compares.
"""

import array
import math
from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, Literal, Union

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from headrace.domain.contract import Contract, Feature
from headrace.domain.encoding import Matrix
from serving.keys import Keys, key_bytes, key_names, microseconds
from serving.limits import Limits
from serving.rows import FLOAT32_MAX

_NUMBER = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
# 760.0 is the integer 760, in both ways to read a row.
_WHOLE = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX, multiple_of=1.0)]
_EXTRA = Union[str, None, UnsetType]  # noqa: UP007 - msgspec is given a value


class NotPlain(Exception):
    """The body is something else than complete, valid rows of moderate number."""


class RowDecoder:
    """Decodes the bodies of one contract.

    Args:
        contract: what a row has to be.
        limits: of the rows.
        most_rows: so many rows are plain.
        completes: whether features of views that are absent are to be looked up; such rows are not plain.
    """

    def __init__(self, contract: Contract, limits: Limits, most_rows: int, completes: bool) -> None:
        # `parse_rows` refuses more than the limit says, wherever they are. A row has one, and the body another two.
        self._most_brackets = min(2 * limits.rows, most_rows) + 2
        self._decode = _body_decoder(contract, limits, completes)
        self._features = _getter(range(len(contract.features)))
        extras = range(len(contract.features), len(contract.features) + len(contract.row_extras))
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
        if body.count(b"{") + body.count(b"[") > self._most_brackets:
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
        said = list(chain.from_iterable(values))
        absent = said.count(UNSET)
        if absent == len(said):
            return None
        columns = list(zip(*values, strict=True))
        if absent:
            columns = [tuple(None if value is UNSET else value for value in column) for column in columns]
        texts = [[key_bytes(value) for value in column] for column in columns[: self._key_count]]
        if any(text is None for text in chain.from_iterable(texts)):
            raise NotPlain
        moments = columns[self._key_count] if len(columns) > self._key_count else [None] * len(rows)
        times = [microseconds(moment) for moment in moments]
        if any(time is None and moment is not None for time, moment in zip(times, moments, strict=True)):
            raise NotPlain
        return Keys(texts, times)  # type: ignore[arg-type]


def _body_decoder(contract: Contract, limits: Limits, completes: bool) -> Callable[[bytes], Any]:
    fields = [(*_field(feature, completes), feature.name) for feature in contract.features]
    times = {name for name, kind in contract.row_extras.items() if kind == "time"}
    # The keys as `key_names` has them, and then the time: an entity may be called as the time is.
    fields += [(_EXTRA, UNSET, name) for name in sorted(contract.row_extras, key=lambda name: name in times)]
    # An entity or a key may be called what no attribute can be: attributes are numbered, and the names are said apart.
    named = {f"f{number}": name for number, (*_, name) in enumerate(fields)}
    kinds = [
        (attribute, kind) if default is ... else (attribute, kind, default)
        for attribute, (kind, default, _) in zip(named, fields, strict=True)
    ]
    row = msgspec.defstruct("Row", sorted(kinds, key=len), rename=named, forbid_unknown_fields=True, gc=False)
    rows = Annotated[list[row], Meta(min_length=1, max_length=limits.rows)]  # type: ignore[valid-type]
    body = msgspec.defstruct("Body", [("rows", rows)], forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(body).decode


def _getter(numbers: Sequence[int]) -> Any:
    """attrgetter gives a bare value for one attribute and a tuple for several; this is a tuple for any number."""
    names = [f"f{number}" for number in numbers]
    if len(names) > 1:
        return attrgetter(*names)
    (name,) = names
    return lambda row: (getattr(row, name),)


def _field(feature: Feature, completes: bool) -> tuple[Any, Any]:
    """The type of a feature's values, and what an absent one is; ... if it has to be there."""
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
        return Union[kind, UnsetType], UNSET  # noqa: UP007
    return kind, None if feature.missing else ...
