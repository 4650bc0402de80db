"""Blocks of predictions in a file that can be cut off anywhere: what the prediction log writes until it is Parquet.

A file is a line of JSON, which says what a reader has to know, and then for every block the arrays of `FRAME` in
numpy's own format. A process that is killed, or a disk that fills up, leaves a last block that is not whole; a reader
takes what is whole.
"""

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.domain.contract import Contract
from serving.blocks import ID_BYTES, Block
from serving.context import ROLES
from serving.keys import KEY_BYTES, key_names

_log = logging.getLogger("headrace.serving")

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
    return json.dumps(said).encode() + b"\n"


def frame(block: Block, contract: Contract) -> memoryview:
    """A block as it is in a file."""
    buffer = io.BytesIO()
    for one in _arrays(block, contract):
        np.lib.format.write_array(buffer, np.ascontiguousarray(one), version=(1, 0), allow_pickle=False)
    return buffer.getbuffer()


def _arrays(block: Block, contract: Contract) -> list[NDArray[Any]]:
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


def read_spool(path: Path) -> tuple[dict[str, Any], Iterator[dict[str, NDArray[Any]]]]:
    """The header of a file, and its blocks as far as they are whole; neither when not even the header is.

    Raises:
        ValueError: the header is none, or of a form that is not known here.
    """
    with path.open("rb") as file:
        line = file.readline()
    if not line.endswith(b"\n"):
        return {}, iter(())
    said = json.loads(line)
    if not isinstance(said, dict) or said.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"it does not begin like a spool file of form {SCHEMA_VERSION}")
    return said, _blocks(path, len(line))


def _blocks(path: Path, start: int) -> Iterator[dict[str, NDArray[Any]]]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(start)
        while start < size:
            try:
                arrays = [np.lib.format.read_array(file, allow_pickle=False) for _ in FRAME]
            except (ValueError, EOFError):
                fields = {"file": str(path), "bytes": size - start}
                _log.warning("the last block of a file is not whole and is left out", extra={"fields": fields})
                return
            start = file.tell()
            yield dict(zip(FRAME, arrays, strict=True))
