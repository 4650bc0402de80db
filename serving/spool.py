"""Blocks of predictions in a file that can be cut off anywhere: what the prediction log writes until it is Parquet.

A file is a sequence of arrays in numpy's own format: first its header (JSON, as bytes), then for every block the arrays
of `FRAME` in this order. A process that is killed, or a disk that fills up, leaves a last block that is not whole; a
reader takes what is whole.
"""

import fcntl
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.domain.contract import Contract
from serving.context import ROLES
from serving.keys import KEY_BYTES, key_names
from serving.recorder import ID_BYTES, Block

OPEN, CLOSED = ".open", ".closed"
SCHEMA_VERSION = 1
FRAME = (
    "request_rows",  # int32 (n_requests,): how many of the block's rows are each request's
    "request_time_us",  # int64 (n_requests,): microseconds since 1970 UTC
    "request_role",  # uint8 (n_requests,): position in the header's roles
    "request_id",  # bytes (n_requests,)
    "trace_id",  # bytes (n_requests,): hexadecimal, empty without a trace
    "prediction_id",  # uint8 (n_rows, ID_BYTES)
    "features",  # float32 (n_rows, n_features), as the model took them
    "predictions",  # float32 (n_rows,) or (n_rows, n_classes)
    "keys",  # bytes (n_rows, n_keys), empty where there is none; no rows when no row of the block has any
    "decision_time_us",  # int64 (n_rows,), NO_TIME where there is none; no rows likewise
)
NO_TIME = np.iinfo(np.int64).min
_REQUEST_ID_BYTES, _TRACE_ID_BYTES = 64, 32


class SpoolFile:
    """One file, to append to. It is locked while it is open, so that nobody takes it for left over."""

    def __init__(self, path: Path, contract: Contract, version: int) -> None:
        """Make the file.

        Raises:
            OSError: it can't be made, or has no room for its header.
        """
        self.path = path
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.bytes = 0
            self._write(_arrays([np.frombuffer(header(contract, version), dtype=np.uint8)]))
        except OSError:
            self.close()
            path.unlink(missing_ok=True)
            raise

    def append(self, block: Block, contract: Contract) -> None:
        """Add a block, all of it or nothing.

        Raises:
            OSError: there is no room, or the disk fails.
        """
        self._write(_arrays(frame(block, contract)))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def finish(self) -> None:
        """Let go of the file and mark it as whole."""
        self.close()
        self.path.rename(self.path.with_suffix(CLOSED))

    def _write(self, data: memoryview) -> None:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            # What is after half a block could not be read.
            os.ftruncate(self._fd, self.bytes)
            raise
        self.bytes = os.fstat(self._fd).st_size


def header(contract: Contract, version: int) -> bytes:
    """What a reader has to know about a file's arrays."""
    features = [{"name": f.name, "type": f.type, "values": list(f.values)} for f in contract.features]
    said = {
        "schema_version": SCHEMA_VERSION,
        "model": contract.model,
        "version": version,
        "task": contract.task,
        "classes": list(contract.label.classes),
        "features": features,
        "keys": list(key_names(contract)),
        "roles": list(ROLES),
    }
    return json.dumps(said).encode()


def frame(block: Block, contract: Contract) -> list[NDArray[Any]]:
    """The arrays of a block, in the order of `FRAME`."""
    used, requests = block.used, block.requests
    contexts = [one.context for one in requests]
    keys, times = _keys(block, contract)
    return [
        np.array([one.row_count for one in requests], dtype=np.int32),
        np.array([one.time_us for one in requests], dtype=np.int64),
        np.array([context.role for context in contexts], dtype=np.uint8),
        np.array([context.request_id for context in contexts], dtype=f"S{_REQUEST_ID_BYTES}"),
        np.array([context.trace_id for context in contexts], dtype=f"S{_TRACE_ID_BYTES}"),
        np.frombuffer(block.ids, dtype=np.uint8).reshape(-1, ID_BYTES)[:used],
        block.matrix[:used],
        block.outputs[:used],
        keys,
        times,
    ]


def _keys(block: Block, contract: Contract) -> tuple[NDArray[Any], NDArray[Any]]:
    names = key_names(contract)
    has_any = any(one.keys is not None for one in block.requests)
    rows = block.used if has_any else 0
    keys = np.zeros((rows, len(names)), dtype=f"S{KEY_BYTES}")
    times = np.full(rows, NO_TIME, dtype=np.int64)
    end = 0
    for one in block.requests:
        start, end = end, end + one.row_count
        if one.keys is not None:
            for column, values in enumerate(one.keys.values):
                keys[start:end, column] = values
            times[start:end] = [NO_TIME if time is None else time for time in one.keys.decision_time_us]
    return keys, times


def _arrays(arrays: Sequence[NDArray[Any]]) -> memoryview:
    buffer = io.BytesIO()
    for one in arrays:
        np.lib.format.write_array(buffer, np.ascontiguousarray(one), version=(1, 0), allow_pickle=False)
    return buffer.getbuffer()


def read_spool(path: Path) -> tuple[dict[str, Any], Iterator[dict[str, NDArray[Any]]]]:
    """The header of a file, and its blocks as far as they are whole.

    Raises:
        ValueError: not even the header is, or it is of a form that is not known here.
    """
    file = path.open("rb")
    try:
        said = json.loads(np.lib.format.read_array(file, allow_pickle=False).tobytes())
        if said.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"{path} is of form {said.get('schema_version')}, known is {SCHEMA_VERSION}")
    except BaseException:
        file.close()
        raise
    return said, _blocks(file)


def _blocks(file: io.BufferedReader) -> Iterator[dict[str, NDArray[Any]]]:
    with file:
        while True:
            try:
                arrays = [np.lib.format.read_array(file, allow_pickle=False) for _ in FRAME]
            except (ValueError, EOFError):
                return
            yield dict(zip(FRAME, arrays, strict=True))
