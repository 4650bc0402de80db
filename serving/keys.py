"""What a row may carry besides features: the keys by which its label, and values of its features, are found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace.domain.contract import Contract
from serving.rows import PROBLEM_ROWS, RowProblems

KEY_BYTES = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What 64 bits of nanoseconds can say, as those who read the log will want it.
_YEARS = range(1678, 2262)


@dataclass(frozen=True)
class Keys:
    """The keys of a request's rows.

    Attributes:
        values: for each of `key_names(contract)`, one UTF-8 text a row; empty where the row has none.
        decision_time_us: one a row, microseconds since 1970 UTC; None where the row has none.
    """

    values: Sequence[Sequence[bytes]]
    decision_time_us: Sequence[int | None]


def key_names(contract: Contract) -> tuple[str, ...]:
    """The keys that are text, in the order of `Keys.values`."""
    return tuple(name for name, kind in contract.row_extras.items() if kind == "key")


def read_keys(contract: Contract, rows: Sequence[dict[str, Any]]) -> Keys | None:
    """The keys of decoded rows; None when no row has any.

    Raises:
        RowProblems: one is not of its form; the sentences never repeat it.
    """
    names = key_names(contract)
    time = contract.rows.decision_time
    has_time = time in contract.row_extras
    if not any(name in row for row in rows for name in contract.row_extras):
        return None
    sentences: list[str] = []
    texts: list[list[bytes]] = [[] for _ in names]
    times: list[int | None] = []
    for position, row in enumerate(rows):
        for column, name in zip(texts, names, strict=True):
            text = key_bytes(row.get(name))
            if text is None:
                sentences.append(f"rows[{position}]: {name!r} {KEY_FORM}")
            column.append(text or b"")
        moment = row.get(time) if has_time else None
        times.append(microseconds(moment))
        if moment is not None and times[-1] is None:
            sentences.append(f"rows[{position}]: {time!r} {TIME_FORM}")
        if len(sentences) >= PROBLEM_ROWS:
            break
    if sentences:
        raise RowProblems(sentences)
    return Keys(texts, times)


KEY_FORM = f"must be a text of 1 to {KEY_BYTES} bytes without control characters"
TIME_FORM = "must be a time with its zone, such as 2013-07-01T12:00:00Z"


def key_bytes(value: Any) -> bytes | None:
    """A key as the log keeps it, empty for null; None when it is not of the form of one."""
    if value is None:
        return b""
    if not isinstance(value, str) or not value or not value.isprintable():
        return None
    data = value.encode()
    return data if len(data) <= KEY_BYTES else None


def microseconds(value: Any) -> int | None:
    """A time in RFC 3339 as microseconds since 1970 UTC; None when it is none, has no zone or is centuries away."""
    if not isinstance(value, str) or not 20 <= len(value) <= 40:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None or moment.year not in _YEARS:
        return None
    elapsed = moment - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds
