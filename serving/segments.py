"""``python -m serving.segments FOLDER [TO]``: make Parquet segments of the spool files that are closed or left behind.

A process of its own, started by the service now and then, so that the Parquet library is in nobody's memory for long.
A segment's name is its spool file's: made twice, after a crash between writing one and removing the other, it is the
same segment.
"""

import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace import telemetry
from serving.label_log import LABELS, read_labels
from serving.spool import CLOSED, NO_TIME, OPEN, read_spool

_TIME = pa.timestamp("us", tz="UTC")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what segments can be made.

    Returns:
        The exit code: 0 when nothing is left to do, 4 when something could not be written and is kept.
    """
    given = sys.argv[1:] if arguments is None else arguments
    folder, to = Path(given[0]), given[1] if len(given) > 1 else ""
    telemetry.configure()
    with _alone(folder / "spool") as is_alone:
        if not is_alone:
            return 0
        os.nice(10)
        made = [_segment(path, folder, to) for path in _whole(folder / "spool")]
        return 0 if all(made) else 4


@contextmanager
def _alone(spool: Path) -> Iterator[bool]:
    """Several services may share a folder; one makes the segments of all."""
    with (spool / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _whole(spool: Path) -> list[Path]:
    """Closed files, and those that a dead process left open: nobody holds their lock."""
    for path in spool.glob(f"*{OPEN}"):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.rename(path.with_suffix(CLOSED))
        except OSError:
            continue
    return sorted(spool.glob(f"*{CLOSED}"))


def _segment(path: Path, folder: Path, to: str) -> bool:
    try:
        is_labels = path.name.startswith(f"{LABELS}-")
        table = labels_table(path) if is_labels else predictions_table(path)
        if table is not None:
            _write(table, f"{LABELS if is_labels else 'predictions'}", path.stem, folder, to)
        path.unlink()
    except ValueError as unreadable:
        # Not a spool file, or a newer service's: kept, and out of the way.
        print(f"headrace: {path} is no spool file: {unreadable}; set aside", file=sys.stderr)
        path.rename(path.with_suffix(".unreadable"))
    except (OSError, pa.ArrowException) as failed:
        print(f"headrace: {path} can't be made a segment at {to or folder}: {failed}; kept", file=sys.stderr)
        return False
    return True


def _write(table: pa.Table, kind: str, name: str, folder: Path, to: str) -> None:
    filesystem, root = pyarrow.fs.FileSystem.from_uri(to) if "://" in to else (None, to or str(folder))
    day = datetime.fromtimestamp(pc.min(table["time"]).value / 1e6, UTC).date()
    place = f"{root}/{kind}/model={table['model'][0]}/date={day}"
    # The folders say the model as well; inside, it would be there twice for those who read all as one table.
    table = table.drop_columns(["model"])
    if filesystem is not None:
        pq.write_table(table, f"{place}/{name}.parquet", filesystem=filesystem, compression="zstd")
        return
    Path(place).mkdir(parents=True, exist_ok=True)
    half = Path(place) / f".{name}.part"
    pq.write_table(table, half, compression="zstd")
    with half.open("rb") as file:
        os.fsync(file.fileno())
    half.rename(Path(place) / f"{name}.parquet")


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
        latest[(label["prediction_id"], label["key"], label["decision_time_us"])] = label
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


if __name__ == "__main__":
    sys.exit(main())
