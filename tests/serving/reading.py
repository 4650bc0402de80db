"""What the prediction log has kept, as a reader finds it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FileSystem

from serving.label_log import read_labels
from serving.spool_file import LABELS, PREDICTIONS


def kept_labels(spool: Path) -> list[dict[str, Any]]:
    """Every label in a spool, in the order of the files."""
    return [label for path in sorted(spool.glob(f"{LABELS}-*")) for label in read_labels(path)]


def spooled(folder: Path, ending: str = "") -> list[Path]:
    """What is in the spool of a folder and is no lock."""
    found = [path for kind in (PREDICTIONS, LABELS) for path in (folder / "spool").glob(f"{kind}-*{ending}")]
    return sorted(found)


def segments(folder: Path, kind: str = PREDICTIONS) -> list[Path]:
    """The segments of a kind in a folder, half ones too."""
    return sorted(path for path in (folder / kind).rglob("*") if path.is_file())


def logged(folder: Path | str, kind: str = PREDICTIONS, filesystem: FileSystem | None = None) -> list[dict[str, Any]]:
    """Every row of every segment of a kind, with what the folders say of it."""
    place = f"{folder}/{kind}"
    if filesystem is None and not Path(place).is_dir():
        return []
    partitions = ds.partitioning(pa.schema([("model", pa.string()), ("date", pa.date32())]), flavor="hive")
    found = ds.dataset(place, filesystem=filesystem, partitioning=partitions, format="parquet")
    # Each by itself: two versions have not the same features.
    return [row for part in found.get_fragments() for row in _rows(part, partitions)]


def _rows(part: Any, partitions: Any) -> list[dict[str, Any]]:
    said = ds.get_partition_keys(part.partition_expression)
    return [row | said for row in part.to_table(schema=part.physical_schema).to_pylist()]
