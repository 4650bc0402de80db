"""Spool files to Parquet: the part of `serving.segments` that needs the Parquet library."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serving.label_log import read_labels
from serving.spool import NO_TIME, read_spool
from serving.spool_file import sync_folder

_TIME = pa.timestamp("us", tz="UTC")


class Segments:
    """Where segments are kept.

    Args:
        to: a folder, or the s3:// URL of one in a bucket.

    Raises:
        ValueError: the URL is none.
        OSError: the bucket can't be reached.
    """

    def __init__(self, to: str) -> None:
        self._filesystem = None
        self._root = to
        if "://" in to:
            try:
                self._filesystem, self._root = pyarrow.fs.FileSystem.from_uri(to)
            except ValueError:
                # Its words would repeat the URL, which may hold a key.
                raise ValueError("the segments' place is no URL of a bucket") from None

    def write(self, table: pa.Table, kind: str, name: str) -> None:
        """Keep a table of one model as a segment; of two with the same name the later one.

        It is in the folder of the day, in UTC, of its first row.

        Raises:
            OSError: it could not be written; nothing of it is there.
        """
        day = datetime.fromtimestamp(pc.min(table["time"]).value // 1_000_000, UTC).date()
        place = f"{self._root}/{kind}/model={table['model'][0]}/date={day}"
        # The folders say the model as well; inside, it would be there twice for those who read all as one table.
        table = table.drop_columns(["model"])
        if self._filesystem is not None:
            pq.write_table(table, f"{place}/{name}.parquet", filesystem=self._filesystem, compression="zstd")
        else:
            _write_file(table, Path(place), name)


def _write_file(table: pa.Table, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / f".{name}.part"
    try:
        pq.write_table(table, half, compression="zstd")
        with half.open("rb") as file:
            os.fsync(file.fileno())
        half.rename(folder / f"{name}.parquet")
        # The spool file, which was durable if it is of labels, goes next.
        sync_folder(folder)
    finally:
        half.unlink(missing_ok=True)


def predictions_table(path: Path) -> pa.Table | None:
    """The predictions in a spool file, as far as they are whole; None when there are none.

    Raises:
        ValueError: it is no spool file.
    """
    said, blocks = read_spool(path)
    tables = [_block_table(said, block) for block in blocks]
    return pa.concat_tables(tables) if tables else None


def _block_table(said: dict[str, Any], block: dict[str, NDArray[Any]]) -> pa.Table:
    each = block["request_rows"]
    count = int(each.sum())
    roles = pa.DictionaryArray.from_arrays(np.repeat(block["request_role"], each).astype(np.int8), said["roles"])
    return pa.table(
        {
            "prediction_id": _hexadecimal(block["prediction_id"]),
            "time": pa.array(np.repeat(block["request_time_us"], each), pa.int64()).cast(_TIME),
            "model": pa.array([said["model"]] * count, pa.string()),
            "version": pa.array(np.full(count, said["version"], dtype=np.int32)),
            "role": roles.cast(pa.string()),
            "request_id": _texts(np.repeat(block["request_id"], each)),
            "trace_id": _texts(np.repeat(block["trace_id"], each)),
            "keys": _keys(said, block, count),
            "decision_time": _times(block["decision_time_us"], count),
            "features": _features(said, block["features"]),
            "prediction": _predictions(said, block["predictions"]),
        }
    )


def _hexadecimal(ids: NDArray[Any]) -> pa.Array:
    width = 2 * ids.shape[1]
    offsets = np.arange(0, width * (len(ids) + 1), width, dtype=np.int32)
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(ids.tobytes().hex().encode()))


def _texts(values: NDArray[Any]) -> pa.Array:
    texts = pa.array(values.tolist(), pa.binary()).cast(pa.string())
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _times(values: NDArray[Any], count: int) -> pa.Array:
    if not len(values):
        return pa.nulls(count, _TIME)
    return pa.array(values, pa.int64(), mask=values == NO_TIME).cast(_TIME)


def _keys(said: dict[str, Any], block: dict[str, NDArray[Any]], count: int) -> pa.Array:
    keys, names = block["keys"], said["keys"]
    columns = [_texts(keys[:, i]) if len(keys) else pa.nulls(count, pa.string()) for i in range(len(names))]
    # A struct without fields is nothing that Parquet knows.
    return pa.StructArray.from_arrays(columns, names) if names else pa.nulls(count, pa.string())


def _features(said: dict[str, Any], matrix: NDArray[Any]) -> pa.Array:
    columns = [_feature(feature, matrix[:, i]) for i, feature in enumerate(said["features"])]
    return pa.StructArray.from_arrays(columns, [feature["name"] for feature in said["features"]])


def _feature(feature: dict[str, Any], column: NDArray[Any]) -> pa.Array:
    missing = np.isnan(column)
    if feature["type"] == "category":
        codes = pa.array(np.where(missing, 0, column).astype(np.int32), mask=missing)
        return pa.DictionaryArray.from_arrays(codes, pa.array(feature["values"], pa.string())).cast(pa.string())
    if feature["type"] == "int":
        # Beyond 2^63 a whole number is no int64; float32 has those.
        whole = np.where(missing | (np.abs(column) >= 2.0**63), 0, column).astype(np.int64)
        return pa.array(whole, mask=missing | (np.abs(column) >= 2.0**63))
    if feature["type"] == "bool":
        return pa.array(np.where(missing, 0, column).astype(np.bool_), mask=missing)
    return pa.array(np.ascontiguousarray(column), pa.float32(), mask=missing)


def _predictions(said: dict[str, Any], outputs: NDArray[Any]) -> pa.Array:
    if outputs.ndim == 1:
        return pa.array(np.ascontiguousarray(outputs), pa.float32())
    columns = [pa.array(np.ascontiguousarray(outputs[:, i]), pa.float32()) for i in range(outputs.shape[1])]
    return pa.StructArray.from_arrays(columns, said["classes"])


def labels_table(path: Path) -> pa.Table | None:
    """The labels in a spool file; of two for one thing, the last. None when there are none."""
    latest = {}
    for label in read_labels(path):
        # An id names one prediction, whatever else is said about it.
        of_key = (label["key"], label["decision_time_us"])
        latest[label["prediction_id"] or of_key] = label
    if not latest:
        return None
    labels = list(latest.values())
    columns: dict[str, Any] = {
        "time": pa.array([one["time_us"] for one in labels], pa.int64()).cast(_TIME),
        "model": pa.array([one["model"] for one in labels], pa.string()),
        "prediction_id": pa.array([one["prediction_id"] for one in labels], pa.string()),
        "key": pa.array([one["key"] for one in labels], pa.string()),
        "decision_time": pa.array([one["decision_time_us"] for one in labels], pa.int64()).cast(_TIME),
        "label": pa.array([one["label"] for one in labels], pa.float64()),
        "label_time": pa.array([one["label_time_us"] for one in labels], pa.int64()).cast(_TIME),
    }
    return pa.table(columns)
