"""Spool files become segments: once, here or in a bucket, and stay until they have."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSelector

from serving.spool import frame, header
from serving.spool_file import CLOSED, OPEN, UNREADABLE, SpoolFile
from tests.seaweed import Seaweed
from tests.serving.conftest import VERSION, make_contract
from tests.serving.logged import make_segments, predict, read_rows, segments, service, spooled_rows, waiting_files
from tests.serving.test_prediction_log import make_block

CONTRACT = make_contract("binary")


def spool_file(folder: Path, *marks: int) -> SpoolFile:
    """A spool file with a block of two rows for each mark."""
    (folder / "spool").mkdir(exist_ok=True)
    file = SpoolFile(folder / "spool", "predictions", "flight_delay-v3")
    file.append(header(CONTRACT, VERSION))
    for mark in marks:
        file.append(frame(make_block(2, mark), CONTRACT))
    return file


def marks(folder: Path) -> list[str]:
    return sorted(row["prediction_id"][:2] for row in read_rows(folder))


def test_segment_that_is_made_twice_is_one_file(tmp_path: Path) -> None:
    file = spool_file(tmp_path, 1, 2)
    file.finish()
    closed = file.path.with_suffix(CLOSED)
    content = closed.read_bytes()
    for _ in range(2):
        # As after a kill between the writing of one and the removal of the other.
        closed.write_bytes(content)
        assert make_segments(tmp_path) == 0
        assert waiting_files(tmp_path) == []
        assert [path.stem for path in segments(tmp_path)] == [closed.stem]
    assert marks(tmp_path) == ["01", "01", "02", "02"]


def test_half_a_segment_of_one_that_was_killed_is_replaced(tmp_path: Path) -> None:
    file = spool_file(tmp_path, 1)
    file.finish()
    day = tmp_path / "predictions" / "model=flight_delay" / "date=1970-01-01"
    day.mkdir(parents=True)
    (day / f".{file.path.stem}.part").write_bytes(b"PAR1 half")
    assert make_segments(tmp_path) == 0
    assert segments(tmp_path) == [day / f"{file.path.stem}.parquet"]
    assert marks(tmp_path) == ["01", "01"]


def test_file_that_somebody_writes_is_left_to_them(tmp_path: Path) -> None:
    file = spool_file(tmp_path, 1)
    assert make_segments(tmp_path) == 0
    assert waiting_files(tmp_path) == [file.path.name]
    file.append(frame(make_block(2, 2), CONTRACT))
    file.finish()
    assert make_segments(tmp_path) == 0
    assert marks(tmp_path) == ["01", "01", "02", "02"]


def test_file_that_somebody_just_made_is_left_to_them_though_not_locked_yet(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / f"predictions-new{OPEN}").touch()
    assert make_segments(tmp_path) == 0
    assert waiting_files(tmp_path) == [f"predictions-new{OPEN}"]


def test_what_is_no_spool_file_is_set_aside_and_the_others_are_made(tmp_path: Path) -> None:
    spool_file(tmp_path, 1).finish()
    (tmp_path / "spool" / f"predictions-odd{CLOSED}").write_bytes(b"what is this?\n")
    (tmp_path / "spool" / f"labels-odd{CLOSED}").write_bytes(b"[]\n")
    assert make_segments(tmp_path) == 0
    assert waiting_files(tmp_path) == [f"labels-odd{UNREADABLE}", f"predictions-odd{UNREADABLE}"]
    assert marks(tmp_path) == ["01", "01"]


@pytest.mark.parametrize("to", ["", "elsewhere"])
def test_segments_go_where_they_are_told_and_what_can_not_stays(tmp_path: Path, to: str) -> None:
    place = tmp_path / to if to else tmp_path
    place.mkdir(exist_ok=True)
    spool_file(tmp_path, 1).finish()
    (place / "predictions").write_bytes(b"a file where a folder should be")
    assert make_segments(tmp_path, str(place) if to else "") == 4
    assert [Path(name).suffix for name in waiting_files(tmp_path)] == [CLOSED]
    (place / "predictions").unlink()
    assert make_segments(tmp_path, str(place) if to else "") == 0
    assert marks(place) == ["01", "01"]
    assert waiting_files(tmp_path) == []


def in_bucket(store: Seaweed, prefix: str) -> list[dict[str, Any]]:
    """All predictions below a prefix."""
    files = store.files()
    found = files.get_file_info(FileSelector(f"{store.bucket}/{prefix}", recursive=True))
    paths = [one.path for one in found if one.is_file]
    assert all("/model=flight_delay/date=" in path and path.endswith(".parquet") for path in paths)
    return [row for path in paths for row in pq.ParquetFile(files.open_input_file(path)).read().to_pylist()]


def test_segments_wait_for_a_bucket_that_is_away_and_arrive_in_it(
    directories: dict[str, Path],
    tmp_path: Path,
    make_rows: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Seaweed(tmp_path / "store")
    for name, value in {**store.env, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    folder, to = tmp_path / "log", ("--prediction-log-to", store.url("log"))
    try:
        with service(directories["binary"], folder, *to) as one:
            ids = predict(one, make_rows(20))
            assert one.stop(signal.SIGTERM) == 0
            assert any("not written whole" in event["event"] for event in one.events)
        assert spooled_rows(folder) == 20
        store.start()
        with service(directories["binary"], folder, *to) as two:
            ids += predict(two, make_rows(30))
            assert two.stop() == 0
        assert waiting_files(folder) == []
        assert sorted(row["prediction_id"] for row in in_bucket(store, "log")) == sorted(ids)
        assert not (folder / "predictions").exists()
    finally:
        store.stop()
