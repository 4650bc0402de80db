"""Rows to columns that are known to be valid.

`headrace.domain.encoding.row_problems` says what a valid row is, and words the problems. Asked of every row it would
take half a second for a full request, so here a column is accepted at once, and only rows that have a problem are
asked about. A property test holds the two together.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.domain.contract import Contract, Feature
from headrace.domain.encoding import row_problems

_PROBLEM_ROWS = 5
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_KINDS: Mapping[str, frozenset[type]] = {
    "float": frozenset({float, int}),
    "int": frozenset({int}),
    "bool": frozenset({bool}),
    "category": frozenset({str}),
}
_ABSENT = object()

Columns = dict[str, list[Any]]


class RowProblems(Exception):
    """Some rows break the contract.

    Attributes:
        sentences: the problems of the first few such rows.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


def to_columns(contract: Contract, rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Turn rows into columns.

    Args:
        contract: what a row has to be.
        rows: decoded JSON, so the values are exactly None, bool, int, float, str, list or dict.

    Returns:
        Feature name to its n_rows values; an absent optional value is None.

    Raises:
        RowProblems: some rows are not valid.
    """
    names = frozenset(contract.feature_names)
    suspects = {position for position, row in enumerate(rows) if not row.keys() <= names}
    columns: Columns = {}
    for feature in contract.features:
        default = None if feature.missing else _ABSENT
        column = columns[feature.name] = [row.get(feature.name, default) for row in rows]
        if not _accepts(feature, column):
            suspects |= _first_refused(feature, column)
    if suspects:
        first = sorted(suspects)[:_PROBLEM_ROWS]
        raise RowProblems([sentence for i in first for sentence in _sentences(contract, i, rows[i])])
    return columns


def _accepts(feature: Feature, column: Sequence[Any]) -> bool:
    kinds = set(map(type, column))
    if feature.missing and type(None) in kinds:
        kinds.discard(type(None))
        column = [value for value in column if value is not None]
    if not kinds <= _KINDS[feature.type]:
        return False
    match feature.type:
        case "float" | "int":
            return all(abs(value) <= _FLOAT32_MAX for value in _extremes(column))
        case "category":
            return feature.missing or set(column) <= set(feature.values)
    return True


def _extremes(column: Sequence[float]) -> Sequence[float]:
    return (min(column), max(column)) if column else ()


def _first_refused(feature: Feature, column: Sequence[Any]) -> set[int]:
    refused: set[int] = set()
    for position, value in enumerate(column):
        if not _accepts(feature, (value,)):
            refused.add(position)
            if len(refused) == _PROBLEM_ROWS:
                break
    return refused


def _sentences(contract: Contract, position: int, row: Mapping[str, Any]) -> list[str]:
    names = contract.feature_names
    known = {name: row[name] for name in names if name in row}
    sentences = [f"rows[{position}]: {problem}" for problem in row_problems(contract, known)]
    unknown = next((name for name in row if name not in names), None)
    if unknown is not None:
        # One is enough to see a spelling mistake; there may be a hundred thousand.
        sentences.insert(0, f"rows[{position}]: {unknown[:64]!r} is not a feature of {contract.model}")
    return sentences
