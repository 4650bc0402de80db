"""Rows and columns to columns that are known to be valid.

`headrace.domain.encoding.row_problems` says what a valid row is, and words the problems. Asked of every row it would
take half a second for a full request, so here a column is accepted at once, and only rows that have a problem are
asked about. A property test holds the two together.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.domain.contract import Contract, Feature
from headrace.domain.encoding import row_problems

FLOAT32_MAX = float(np.finfo(np.float32).max)
PROBLEM_ROWS = 5
_KINDS: Mapping[str, frozenset[type]] = {
    "float": frozenset({float, int}),
    "int": frozenset({int, float}),
    "bool": frozenset({bool}),
    "category": frozenset({str}),
}
_ABSENT = object()

# An array is of numbers, with NaN for missing; 1 and 0 are true and false.
Numbers = NDArray[np.float64]
Column = list[Any] | Numbers
# To mypy an array is no sequence, so that it is Any here.
Columns = dict[str, Any]


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
        rows: decoded JSON, so the values are exactly None, bool, int, float, str, list or dict. What else the contract
            lets a row carry is not looked at here: see `serving.keys`.

    Returns:
        Feature name to its n_rows values; an absent optional value is None.

    Raises:
        RowProblems: some rows break the contract.
    """
    names = {*contract.feature_names, *contract.row_extras}
    unknown = (i for i, row in enumerate(rows) if not row.keys() <= names)
    columns: Columns = {}
    for feature in contract.features:
        default = None if feature.missing else _ABSENT
        columns[feature.name] = [row.get(feature.name, default) for row in rows]
    _refuse(contract, {*unknown, *_suspects(contract, columns)}, rows.__getitem__)
    return columns


def check_columns(contract: Contract, columns: Columns) -> None:
    """Check columns that came as columns.

    Args:
        contract: what a row has to be.
        columns: a column for every feature, all of one length; an array only for float, int and bool.

    Raises:
        RowProblems: some rows break the contract.
    """

    def row(position: int) -> dict[str, Any]:
        return {f.name: _plain(f, columns[f.name][position]) for f in contract.features}

    _refuse(contract, _suspects(contract, columns), row)


def _plain(feature: Feature, value: Any) -> Any:
    if not isinstance(value, np.floating):
        return value
    if np.isnan(value):
        return None
    return bool(value) if feature.type == "bool" else float(value)


def _suspects(contract: Contract, columns: Columns) -> set[int]:
    suspects: set[int] = set()
    for feature in contract.features:
        column = columns[feature.name]
        if isinstance(column, np.ndarray):
            suspects.update(np.flatnonzero(_refused(feature, column))[:PROBLEM_ROWS].tolist())
        elif not _accepts(feature, column):
            suspects |= _first_refused(feature, column)
    return suspects


def _refused(feature: Feature, column: Numbers) -> NDArray[np.bool_]:
    # Asked this way round, NaN is refused.
    refused = ~(np.abs(column) <= FLOAT32_MAX)
    if feature.type == "int":
        refused |= column != np.floor(column)
    return refused & ~np.isnan(column) if feature.missing else refused


def _accepts(feature: Feature, column: Sequence[Any]) -> bool:
    kinds = set(map(type, column))
    if feature.missing and type(None) in kinds:
        kinds.discard(type(None))
        column = [value for value in column if value is not None]
    if not kinds <= _KINDS[feature.type]:
        return False
    match feature.type:
        case "int" if float in kinds and not all(v.is_integer() for v in column if type(v) is float):
            return False
        case "float" | "int":
            return all(abs(value) <= FLOAT32_MAX for value in _extremes(column))
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
            if len(refused) == PROBLEM_ROWS:
                break
    return refused


def _refuse(contract: Contract, suspects: Iterable[int], row: Callable[[int], Mapping[str, Any]]) -> None:
    first = sorted(suspects)[:PROBLEM_ROWS]
    if first:
        raise RowProblems([sentence for i in first for sentence in _sentences(contract, i, row(i))])


def _sentences(contract: Contract, position: int, row: Mapping[str, Any]) -> list[str]:
    names = contract.feature_names
    known = {name: row[name] for name in names if name in row}
    sentences = [f"rows[{position}]: {problem}" for problem in row_problems(contract, known)]
    unknown = next((name for name in row if name not in names and name not in contract.row_extras), None)
    if unknown is not None:
        # One is enough to see a spelling mistake; there may be a hundred thousand.
        sentences.insert(0, f"rows[{position}]: {unknown[:64]!r} is not a feature of {contract.model}")
    return sentences
