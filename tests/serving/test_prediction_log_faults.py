"""The prediction log when what is below it fails: what it costs is counted, and what comes after is kept."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serving.metrics import Families
from serving.prediction_log import LogOptions, PredictionLog
from tests.serving.conftest import make_contract, seal
from tests.serving.logged import (
    PREDICT,
    eventually,
    metric,
    post,
    predict,
    read_rows,
    segments,
    service,
    small_disk,
    spooled_rows,
    waiting_files,
)
from tests.serving.test_prediction_log import make_block

CONTRACT = make_contract("binary")
DISK = 'headrace_log_dropped_rows_total{reason="disk"}'


@dataclass
class Log:
    """A log whose clock stands still until it is put on."""

    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.families = Families()
        self.log = PredictionLog(LogOptions(self.folder, **self.options), self.families, lambda: self.now)

    def put(self, *marks: int) -> None:
        """Put blocks of one row, and wait until the thread has been through them."""
        for mark in marks:
            self.log.put(CONTRACT, 3, make_block(1, mark))
        self.wait()

    def wait(self) -> None:
        """Wait until the thread is done with the last block that was put."""
        # It takes a block off this before it writes it, and comes by here after.
        eventually(lambda: self.families.log_queue._value.get() == 0)
        done = threading.Event()
        self.log.also(done.set)
        assert done.wait(30)

    def dropped(self) -> float:
        return self.families.dropped.labels("disk")._value.get()

    def marks(self) -> list[str]:
        return sorted(row["prediction_id"][:2] for row in read_rows(self.folder))


@pytest.fixture
def make_log(tmp_path: Path) -> Iterator[Callable[..., Log]]:
    made: list[Log] = []

    def make(folder: Path = tmp_path, **options: Any) -> Log:
        made.append(Log(folder, options))
        return made[-1]

    yield make
    for one in made:
        one.log.close()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    for way in ("ro", "rw"):
        subprocess.run(["mount", "-o", f"remount,{way}", str(disk)], check=True)  # noqa: S607
        if way == "ro":
            yield


def test_read_only_folder_costs_counted_rows_and_no_answer(
    directories: dict[str, Path], tmp_path: Path, make_rows: Callable[..., Any]
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        (disk / "log" / "spool").mkdir(parents=True)
        with read_only(disk), service(directories["binary"], disk / "log") as one:
            predict(one, make_rows(7))
            eventually(lambda: metric(one, DISK) == 7)
            status, headers, _ = post(
                one, "/v1/models/flight_delay/labels", {"labels": [{"flight_id": "a", "late": 1}]}
            )
            assert (status, headers["retry-after"]) == (503, "30")
            assert one.stop() == 0
            complaints = [event for event in one.events if "can't be written" in event["event"]]
            assert complaints[0]["reason"] == "Read-only file system"
        with service(directories["binary"], disk / "log") as two:
            ids = predict(two, make_rows(3))
            assert two.stop() == 0
        assert [row["prediction_id"] for row in read_rows(disk / "log")] == ids


def test_no_more_waits_to_become_segments_than_may(make_log: Callable[..., Log], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one = make_log(to=str(tmp_path / "file"), rotate_bytes=1, spool_bytes=10_000)
    marks = list(range(1, 40))
    one.put(*marks)
    kept = spooled_rows(tmp_path)
    assert 3 < kept < 20
    assert one.dropped() == len(marks) - kept
    # What was left out are the last ones, and there is room again once the place can be written.
    (tmp_path / "file").unlink()
    one.now = 60.0
    eventually(lambda: waiting_files(tmp_path) == [])
    one.put(100)
    assert one.log.close()
    assert len(read_rows(tmp_path / "file")) == kept + 1


def test_place_that_was_out_of_reach_is_tried_again_while_it_runs(make_log: Callable[..., Log], tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.touch()
    one = make_log(to=str(place), rotate_s=60.0)
    one.put(1)
    one.now = 60.0
    # The maker has failed once it is gone and the file is still there.
    eventually(lambda: one.log._maker is not None and one.log._maker.poll() == 4)
    assert len(waiting_files(tmp_path)) == 1
    place.unlink()
    one.now = 120.0
    eventually(lambda: waiting_files(tmp_path) == [])
    assert len(read_rows(place)) == 1


def test_half_a_block_that_can_not_be_removed_spoils_no_other(make_log: Callable[..., Log], tmp_path: Path) -> None:
    one = make_log()
    one.put(1)
    (writing,) = one.log._files.values()
    # Of a read-only descriptor neither writing nor cutting works.
    os.dup2(fd := os.open(writing.file.path, os.O_RDONLY), writing.file._fd)
    os.close(fd)
    one.put(2)
    assert one.dropped() == 1
    one.put(3)
    assert one.log.close()
    assert one.marks() == ["01", "03"]
    assert len(segments(tmp_path)) == 2


def test_folder_that_goes_away_and_comes_back_costs_what_came_meanwhile(
    make_log: Callable[..., Log], tmp_path: Path
) -> None:
    one = make_log(rotate_bytes=1)
    shutil.rmtree(tmp_path / "spool")
    one.put(1, 2)
    assert one.dropped() == 2
    (tmp_path / "spool").mkdir()
    one.put(3)
    assert one.log.close()
    assert one.marks() == ["03"]


def test_block_that_nobody_foresaw_is_counted_and_the_thread_goes_on(
    make_log: Callable[..., Log], caplog: pytest.LogCaptureFixture
) -> None:
    one = make_log()
    odd = make_block(1, 1)
    odd.requests.clear()
    odd.requests.append(None)  # type: ignore[arg-type]
    one.log.put(CONTRACT, 3, odd)
    one.wait()
    assert one.dropped() == 1
    assert "the prediction log failed" in caplog.text
    one.log.also(lambda: 1 / 0)
    one.put(2)
    assert one.log.close()
    assert one.marks() == ["02"]


def test_segments_come_after_requests_but_the_last_ones_do_not_wait(
    make_log: Callable[..., Log], tmp_path: Path
) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    one = make_log()

    def niceness() -> int | None:
        maker = one.log._maker
        return None if maker is None or maker.poll() is not None else os.getpriority(os.PRIO_PROCESS, maker.pid) - own

    with (tmp_path / "spool" / "lock").open("w") as lock:
        # The maker waits for its turn, so that it can be looked at.
        fcntl.flock(lock, fcntl.LOCK_EX)
        one.put(1)
        one.now = 60.0
        eventually(lambda: niceness() == min(10, 19 - own))
    eventually(lambda: waiting_files(tmp_path) == [])
    with (tmp_path / "spool" / "lock").open("w") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one.put(2)
        closed = pool.submit(one.log.close)
        eventually(lambda: niceness() == 0)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert closed.result(30)
    assert one.marks() == ["01", "02"]


def test_predictions_before_and_after_a_swap_are_under_their_own_versions_and_contracts(
    directory: Path, tmp_path: Path, make_rows: Callable[..., Any]
) -> None:
    folder, rows = tmp_path / "log", [{**row, "gate": "west"} for row in make_rows(20)]
    expected = {}
    with service(directory, folder) as one:
        expected |= dict.fromkeys(predict(one, rows), (3, None))
        # A directory may be told anew under its old number as well.
        for swaps, (version, gates) in enumerate([(4, ["north", "south"]), (3, ["north", "south", "west"])], start=1):
            rewrite(directory, version, gates)
            one.process.send_signal(signal.SIGHUP)
            eventually(lambda swaps=swaps: metric(one, 'headrace_reloads_total{outcome="swapped"}') == swaps)
            _, headers, answer = post(one, PREDICT, {"rows": rows})
            assert headers["headrace-version"] == str(version)
            gate = "west" if "west" in gates else None
            expected |= dict.fromkeys([each["id"] for each in answer["predictions"]], (version, gate))
        assert one.stop() == 0
    found = read_rows(folder)
    assert {row["prediction_id"]: (row["version"], row["features"]["gate"]) for row in found} == expected
    assert len(found) == len(expected)
    assert len(segments(folder)) == 3
    assert waiting_files(folder) == []


def rewrite(directory: Path, version: int, gates: list[str]) -> None:
    """The same model as another version, with these categories of its last feature."""
    contract = json.loads((directory / "contract.json").read_text())
    contract["features"][-1]["values"] = gates
    (directory / "contract.json").write_text(json.dumps(contract))
    seal(directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps({**manifest, "version": version}))
