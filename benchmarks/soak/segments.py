"""What the prediction log has after all is over."""

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.soak.clients import REQUEST_ID
from benchmarks.soak.ledger import Logged


@dataclass(frozen=True)
class Log:
    """The log.

    Attributes:
        requests: number of a request to what there is of it.
        by_role: rows by what the proxy said that the version was.
        label_count: labels.
        left_in_spool: files that were no segment yet when the services had ended.
        repeated_ids: predictions whose id another one has.
    """

    requests: dict[int, Logged]
    by_role: Counter[str]
    label_count: int
    segment_count: int
    left_in_spool: list[str]
    repeated_ids: int


def read(folder: Path, root: Path) -> Log:
    """Read everything, once what the last services left is made segments too, as the next service would do it."""
    left = sorted(path.name for path in (folder / "spool").glob("*.*"))
    if left:
        subprocess.run([sys.executable, "-m", "serving.segments", str(folder)], cwd=root, check=True)
    segments = sorted((folder / "predictions").rglob("*.parquet"))
    rows, marks = Counter[int](), {}
    by_role, repeated, ids = Counter[str](), 0, []
    for path in segments:
        table = pq.read_table(path, columns=["request_id", "prediction_id", "role"], partitioning=None)
        numbers = np.array([_number(one) for one in table["request_id"].to_pylist()], dtype=np.int64)
        heads = _heads(table["prediction_id"].to_pylist())
        ids.append(heads)
        by_role.update(table["role"].to_pylist())
        found, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
        mixed = np.zeros(len(found), dtype=np.uint64)
        np.bitwise_xor.at(mixed, inverse, heads)
        for number, count, mark in zip(found.tolist(), counts.tolist(), mixed.tolist(), strict=True):
            rows[number] += count
            marks[number] = marks.get(number, 0) ^ mark
    every = np.concatenate(ids) if ids else np.empty(0)
    repeated = len(every) - len(np.unique(every))
    labels = sum(pq.ParquetFile(path).metadata.num_rows for path in (folder / "labels").rglob("*.parquet"))
    requests = {number: Logged(count, marks[number]) for number, count in rows.items()}
    return Log(requests, by_role, labels, len(segments), left, repeated)


def _number(request_id: str) -> int:
    """Zero for a request that was none of the clients'."""
    return int(request_id.removeprefix(REQUEST_ID)) if request_id.startswith(REQUEST_ID) else 0


def _heads(ids: list[str]) -> "np.ndarray":
    """The first 64 bits of each."""
    return np.frombuffer(bytes.fromhex("".join(one[:16] for one in ids)), dtype=">u8").astype(np.uint64)
