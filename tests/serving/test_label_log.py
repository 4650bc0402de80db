"""Labels under strain: told by many at once, again and out of order, to a disk that hangs or fails half way."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serving.app import front
from serving.desk import Desk
from serving.label_log import Label, LabelLog, read_labels
from serving.limits import Limits
from serving.loading import load
from serving.parquet import labels_table
from serving.spool_file import CLOSED
from tests.serving.logged import LABELS as PATH
from tests.serving.logged import PREDICT, fill, small_disk

ID = "0123456789abcdef0123456789abcdef"
HOUR_S = 3600.0
FINE = {"prediction_id": ID, "late": 1}


def kept_labels(spool: Path) -> list[dict[str, Any]]:
    """Every label in a spool, in the order of the files."""
    return [label for path in sorted(spool.glob("labels-*")) for label in read_labels(path)]


def make_client(directories: dict[str, Path], labels: LabelLog, **limits: int) -> TestClient:
    return TestClient(front(load(directories["binary"]), Desk(Limits(**limits), labels=labels)))


def said(client: TestClient, *labels: dict[str, Any]) -> Any:
    return client.post(PATH, json={"labels": list(labels)})


# In one file: how readers merge files is theirs, by `time`, which ascends.
TOLD = st.lists(
    st.tuples(st.sampled_from(["id1", "id2", None]), st.sampled_from(["k1", "k2"]), st.sampled_from([None, 5, -5])),
    min_size=1,
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(told=TOLD, cuts=st.lists(st.integers(1, 29), max_size=3))
def test_of_all_labels_for_one_thing_the_last_counts_whoever_sends_it_again(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[Any, ...]], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("told")
    labels = [
        Label(float(position), name, None if name else key, moment) for position, (name, key, moment) in enumerate(told)
    ]
    log = LabelLog(folder, "flight_delay", HOUR_S)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(labels)], strict=True):
        log.append(labels[start:end])
    log.rotate(everything=True)
    expected = {name or (key, moment): float(position) for position, (name, key, moment) in enumerate(told)}
    table = labels_table(next(folder.glob(f"*{CLOSED}")))
    rows = [] if table is None else table.to_pylist()
    found = {
        row["prediction_id"] or (row["key"], row["decision_time"] and int(row["decision_time"].timestamp() * 1e6)): row
        for row in rows
    }
    assert len(found) == len(rows)
    assert {name: row["label"] for name, row in found.items()} == expected


@pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b'{"schema_version": 2}\n', b"\x00\xff\n"])
def test_what_is_no_label_is_said(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "file").write_bytes(line)
    with pytest.raises(ValueError, match=r"no label|Expecting value|can't decode"):
        list(read_labels(tmp_path / "file"))


def test_half_a_line_that_can_not_be_removed_spoils_no_other(tmp_path: Path) -> None:
    log = LabelLog(tmp_path, "flight_delay", HOUR_S)
    log.append([Label(1, ID)])
    assert log._file is not None
    # Of a read-only descriptor neither writing nor cutting works.
    os.dup2(fd := os.open(log._file.path, os.O_RDONLY), log._file._fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        log.append([Label(0, ID)])
    log.append([Label(0, key="a")])
    log.rotate(everything=True)
    assert sorted(one["label"] for one in kept_labels(tmp_path)) == [0, 1]
    assert len(list(tmp_path.glob(f"*{CLOSED}"))) == 2


class HangingDisk(LabelLog):
    """Hangs while it writes, until it is let go."""

    def __init__(self, spool: Path) -> None:
        super().__init__(spool, "flight_delay", HOUR_S)
        self.hangs, self.goes_on = threading.Event(), threading.Event()

    def _append(self, labels: Any) -> None:
        self.hangs.set()
        assert self.goes_on.wait(30)
        super()._append(labels)


def test_disk_that_hangs_holds_some_labels_and_no_prediction(
    directories: dict[str, Path], make_rows: Callable[..., Any], tmp_path: Path
) -> None:
    disk = HangingDisk(tmp_path)
    with make_client(directories, disk, in_flight=40) as client, ThreadPoolExecutor(40) as pool:
        try:
            asked = [pool.submit(said, client, FINE) for _ in range(39)]
            assert disk.hangs.wait(30)
            # So many wait; those beyond are told so at once, while the disk still hangs.
            refused = [one.result() for one in first_done(asked, 39 - 16)]
            assert {(one.status_code, one.headers["Retry-After"]) for one in refused} == {(503, "1")}
            assert client.post(PREDICT, json={"rows": make_rows(3)}).status_code == 200
            # Neither does the log's thread wait for it.
            disk.rotate()
        finally:
            disk.goes_on.set()
        assert sorted(one.result(30).status_code for one in asked) == [200] * 16 + [503] * 23
    assert len(kept_labels(tmp_path)) == 16


def first_done(asked: list[Future[Any]], count: int) -> list[Future[Any]]:
    done: list[Future[Any]] = []
    enough = threading.Event()

    def one_more(future: Future[Any]) -> None:
        done.append(future)
        if len(done) >= count:
            enough.set()

    for future in asked:
        future.add_done_callback(one_more)
    assert enough.wait(30)
    return done[:count]


def test_labels_of_many_clients_at_once_are_whole_lines(directories: dict[str, Path], tmp_path: Path) -> None:
    with make_client(directories, LabelLog(tmp_path, "flight_delay", HOUR_S)) as client, ThreadPoolExecutor(8) as pool:

        def tell(number: int) -> list[int]:
            return [said(client, *[{"flight_id": f"{number}-{i}", "late": 1}] * 3).status_code for i in range(15)]

        statuses = [status for found in pool.map(tell, range(8)) for status in found]
    assert statuses == [200] * 120
    found = kept_labels(tmp_path)
    assert {one["key"] for one in found} == {f"{number}-{i}" for number in range(8) for i in range(15)}
    assert len(found) == 360


def test_request_for_a_part_of_which_there_is_room_is_taken_back(directories: dict[str, Path], tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        log = LabelLog(disk, "flight_delay", HOUR_S)
        client = make_client(directories, log)
        assert said(client, {"flight_id": "before", "late": 1}).status_code == 200
        filler = fill(disk)
        os.truncate(filler, filler.stat().st_size - 4096)
        assert said(client, *[{"flight_id": f"lost {i}", "late": 1} for i in range(200)]).status_code == 503
        assert [one["key"] for one in kept_labels(disk)] == ["before"]
        filler.unlink()
        assert said(client, {"flight_id": "after", "late": 0}).status_code == 200
        assert [one["key"] for one in kept_labels(disk)] == ["before", "after"]
        log.rotate(everything=True)
