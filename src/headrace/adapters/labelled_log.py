"""The Outcomes port on the Parquet segments that the services write: predictions joined with their labels.

What is younger than a rotation is still in spool files, which are left alone: labels come later than that anyway.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.domain.contract import Contract
from headrace.domain.metrics import losses
from headrace.domain.sequences import Tally
from headrace.errors import Unavailable
from headrace.running import progress
from headrace.telemetry import PROBE_ID

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.fs

_EVERY_S = 10.0
# A segment has the day of its first row, and at most a day of rows; a bucket's clock may be another one than ours.
_LONGEST = timedelta(days=1)
_CLOCKS_S = 900.0
_NO_TIME = -(2**63)


class _Asked(NamedTuple):
    model: str
    versions: tuple[int, ...]
    since: float
    span: float | None


class LabelledLog:
    """Losses of labelled predictions; reads every segment once, and lists them at most every ten seconds.

    Args:
        place: folder or s3:// URL of the segments, as the services have it.
        now: seconds that only grow.
        patience_s: how long a look waits for what is read; reading goes on, and a later look finds it.
    """

    def __init__(self, place: str, now: Callable[[], float] = time.monotonic, patience_s: float = 1.0) -> None:
        self._place = place
        self._now = now
        self._patience_s = patience_s
        self._reading: _Reading | None = None
        self._done: _Reading | None = None
        self._read_at = 0.0

    def losses(
        self, model: str, contract: Contract, versions: Sequence[int], since: float, span: float | None = None
    ) -> Mapping[int, Tally]:
        """See the port. In a thread of its own, since a bucket may hang and a bad version must not wait for it."""
        asked, before = _Asked(model, tuple(versions), since, span), self._reading
        is_other = before is None or before.segments.asked != asked
        if before is None or (not before.is_alive() and (is_other or self._now() - self._read_at >= _EVERY_S)):
            self._done = None if is_other else before
            segments = _Segments(self._place, asked, contract) if before is None or is_other else before.segments
            self._reading, self._read_at = _Reading(segments), self._now()
            self._reading.start()
        reading = self._reading
        assert reading is not None  # noqa: S101
        reading.join(self._patience_s)
        done = self._done if reading.is_alive() else reading
        if done is None or done.segments.asked != asked:
            raise Unavailable(f"labels are not read within {self._patience_s:g} s: they count once they are")
        if done.failed is not None:
            raise Unavailable(f"labels can't be read: {done.failed}") from done.failed
        return done.found


class _Reading(threading.Thread):
    """Reads what is new; ends with its process, whatever it waits for."""

    def __init__(self, segments: "_Segments") -> None:
        super().__init__(name="labels", daemon=True)
        self.segments = segments
        self.found: Mapping[int, Tally] = {}
        self.failed: Exception | None = None

    def run(self) -> None:
        try:
            self.found = self.segments.read()
        except Exception as failed:
            # Of a library, of a disk or of a network: labels are one evidence among several.
            self.failed = failed


class _Segments:
    """What was read so far for one question."""

    def __init__(self, place: str, asked: _Asked, contract: Contract) -> None:
        self.asked = asked
        self._place = place
        self._contract = contract
        self._frames: dict[tuple[str, int, int | None], pd.DataFrame | None] = {}
        self._is_joined = True
        self._found: Mapping[int, Tally] = {}

    def read(self) -> Mapping[int, Tally]:
        import pandas as pd

        files, root = self._open()
        labels = list(self._new(files, root, "labels", self._labels))
        # Most rollouts have none, and then nothing else is read.
        predictions = list(self._new(files, root, "predictions", self._predictions)) if labels else []
        if labels and predictions and not self._is_joined:
            found = _joined(pd.concat(predictions), pd.concat(labels))
            self._found = _tallies(found, self._contract, self.asked.span)
            self._is_joined = True
        return self._found

    def _open(self) -> tuple["pyarrow.fs.FileSystem", str]:
        import pyarrow.fs

        if "://" not in self._place:
            return pyarrow.fs.LocalFileSystem(), self._place
        try:
            found: tuple[pyarrow.fs.FileSystem, str] = pyarrow.fs.FileSystem.from_uri(self._place)
        except ValueError:
            # Its words would repeat the URL, which may hold a key.
            raise ValueError("the segments' place is no URL of a bucket") from None
        return found

    def _new(
        self, files: "pyarrow.fs.FileSystem", root: str, kind: str, read: Callable[[Any], "pd.DataFrame"]
    ) -> Iterator["pd.DataFrame"]:
        for info in self._listed(files, f"{root}/{kind}/model={self.asked.model}"):
            key = (info.path, info.size, info.mtime_ns)
            if key not in self._frames:
                try:
                    with files.open_input_stream(info.path) as stream:
                        content = stream.read()
                except FileNotFoundError:
                    continue  # tidied away in between
                self._frames[key], self._is_joined = self._parsed(content, read, info.path), False
            frame = self._frames[key]
            if frame is not None and len(frame):
                yield frame

    def _listed(self, files: "pyarrow.fs.FileSystem", folder: str) -> Iterator["pyarrow.fs.FileInfo"]:
        """The segments that may have rows since then."""
        import pyarrow.fs

        since = datetime.fromtimestamp(self.asked.since, UTC)
        for day in files.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True)):
            began = _day(day.base_name)
            if began is None or began < (since - _LONGEST).date():
                continue
            for info in files.get_file_info(pyarrow.fs.FileSelector(day.path, allow_not_found=True)):
                is_old = info.mtime is not None and info.mtime < since - timedelta(seconds=_CLOCKS_S)
                if info.is_file and info.extension == "parquet" and not info.base_name.startswith(".") and not is_old:
                    yield info

    def _parsed(self, content: bytes, read: Callable[[Any], "pd.DataFrame"], path: str) -> "pd.DataFrame | None":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return read(pq.ParquetFile(pa.BufferReader(content)))
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as broken:
            said = str(broken).partition("\n")[0]
            progress("deploy", f"{path} is no segment and is left out: {said}")
            return None

    def _labels(self, file: Any) -> "pd.DataFrame":
        import pandas as pd

        table = file.read(["time", "prediction_id", "key", "decision_time", "label"])
        frame = pd.DataFrame(
            {
                "time": _microseconds(table["time"]),
                "prediction_id": table["prediction_id"].to_pandas(),
                "key": table["key"].to_pandas(),
                "decision_time": _microseconds(table["decision_time"]),
                "label": table["label"].to_pandas().astype(float),
            }
        )
        return frame[frame["time"] >= self.asked.since * 1e6]

    def _predictions(self, file: Any) -> "pd.DataFrame":
        import pandas as pd

        names = ["prediction_id", "time", "version", "request_id", "keys", "decision_time", "prediction"]
        table = file.read(names)
        frame = pd.DataFrame(
            {
                "time": _microseconds(table["time"]),
                "prediction_id": table["prediction_id"].to_pandas(),
                "version": table["version"].to_pandas().astype(int),
                "request_id": table["request_id"].to_pandas(),
                "key": _key(table["keys"], self._contract),
                "decision_time": _microseconds(table["decision_time"]),
                "prediction": _numbers(table["prediction"], self._contract),
            }
        )
        is_probe = frame["request_id"].fillna("").str.startswith(PROBE_ID)
        wanted = frame["version"].isin(self.asked.versions) & (frame["time"] >= self.asked.since * 1e6)
        return frame[wanted & ~is_probe]


def _day(name: str) -> date | None:
    try:
        return date.fromisoformat(name.removeprefix("date="))
    except ValueError:
        return None


def _microseconds(column: Any) -> Any:
    """Since 1970 UTC, as numbers: equal to each other also where there is none."""
    import pyarrow as pa

    return column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).fill_null(_NO_TIME).to_numpy()


def _key(keys: Any, contract: Contract) -> Any:
    """Of each row, None where it has none; a model without keys has a column of another type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = [field.name for field in keys.type] if pa.types.is_struct(keys.type) else []
    if contract.rows.key not in names:
        return [None] * len(keys)
    return pc.struct_field(keys, contract.rows.key).to_pandas()


def _numbers(predictions: Any, contract: Contract) -> list[Any]:
    """One number a row, or one a class; NaN where there is none."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    classes = contract.label.classes
    names = tuple(field.name for field in predictions.type) if pa.types.is_struct(predictions.type) else ()
    if names != classes:
        raise ValueError(f"its predictions are of {names or 'no'} classes, and the labels of {classes or 'none'}")
    if not classes:
        return predictions.to_pandas().astype(float).to_list()
    columns = [pc.struct_field(predictions, name).to_pandas().astype(float) for name in classes]
    return list(np.column_stack(columns))


def _joined(predictions: "pd.DataFrame", labels: "pd.DataFrame") -> "pd.DataFrame":
    """Predictions with what became of them.

    The label received last counts, whether it names the prediction or its row. A row that a version was asked about
    twice has one outcome: its last prediction counts.
    """
    labels = labels.sort_values("time", kind="stable")
    of_key = ["key", "decision_time"]
    by_id = labels[labels["prediction_id"].notna()].drop_duplicates("prediction_id", keep="last")
    by_key = labels[labels["prediction_id"].isna() & labels["key"].notna()].drop_duplicates(of_key, keep="last")
    found = predictions.merge(
        by_id[["prediction_id", "label", "time"]], on="prediction_id", how="left", suffixes=("", "_id")
    )
    found = found.merge(by_key[[*of_key, "label", "time"]], on=of_key, how="left", suffixes=("", "_key"))
    is_later = found["time_key"].fillna(_NO_TIME) > found["time_id"].fillna(_NO_TIME)
    found["label"] = found["label_key"].where(is_later, found["label"])
    found = found[found["label"].notna()].sort_values("time", kind="stable")
    again = found["key"].notna() & found.duplicated(["version", *of_key], keep="last")
    return found[~again]


def _tallies(found: "pd.DataFrame", contract: Contract, span: float | None) -> Mapping[int, Tally]:
    import numpy as np

    if contract.task != "regression":
        found = found[found["label"].isin(range(len(contract.label.classes) or 2))]
    if found.empty:
        return {}
    lost = losses(contract.task, found["label"].to_numpy(), np.array(found["prediction"].to_list()), span)
    requests = found["request_id"].fillna(found["prediction_id"])
    # Rows of one request hang together: they count as one that is wrong in part.
    means = found.assign(lost=lost, request=requests).groupby(["version", "request"])["lost"].mean()
    told = means.groupby("version").agg(["sum", "count"])
    rows = zip(told.index.tolist(), told["sum"].tolist(), told["count"].tolist(), strict=True)
    return {version: Tally(min(lost, count), count) for version, lost, count in rows}
