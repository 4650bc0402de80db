"""The log of labels and its files: what was kept last counts, and nothing is kept by half."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.label_log import Label, LabelLog, read_labels
from serving.parquet import labels_table
from serving.spool_file import CLOSED, OPEN
from tests.serving.reading import kept_labels

ID = "0123456789abcdef0123456789abcdef"
HOUR_S = 3600.0

# In one file: how readers merge files is theirs, by `time`, which the tests below hold to be in the order of receipt.
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


def test_later_label_has_the_later_time_though_the_clock_is_set_back(tmp_path: Path) -> None:
    clock = iter([2_000_000, 1_000_000, 3_000_000, 3_000_999])
    log = LabelLog(tmp_path, "flight_delay", HOUR_S, clock_ns=lambda: next(clock))
    for value in range(4):
        log.append([Label(value, ID), Label(value, key="a")])
    log.rotate(everything=True)
    assert [(one["label"], one["time_us"]) for one in kept_labels(tmp_path)[::2]] == [
        (0, 2000),
        (1, 2001),
        (2, 3000),
        (3, 3001),
    ]


def test_files_are_closed_by_age_and_by_size_and_at_the_end(tmp_path: Path) -> None:
    now = 0.0
    log = LabelLog(tmp_path, "flight_delay", rotate_s=60, rotate_bytes=2_000, now=lambda: now)

    def files() -> tuple[int, int]:
        return len(list(tmp_path.glob(f"*{OPEN}"))), len(list(tmp_path.glob(f"*{CLOSED}")))

    log.rotate()
    assert files() == (0, 0)
    log.append([Label(1, ID)])
    now = 59.0
    log.rotate()
    assert files() == (1, 0)
    now = 60.0
    log.rotate()
    assert files() == (0, 1)
    log.append([Label(1, ID)])
    # Nobody has to come by for a file that is old or long: the next one that writes sees it.
    now = 120.0
    log.append([Label(1, ID)] * 20)
    assert files() == (1, 2)
    log.append([Label(1, ID)])
    assert files() == (1, 3)
    log.rotate(everything=True)
    assert files() == (0, 4)
    assert len(kept_labels(tmp_path)) == 23


def test_labels_that_wait_to_become_segments_are_bounded(tmp_path: Path) -> None:
    log = LabelLog(tmp_path, "flight_delay", HOUR_S, rotate_bytes=1, spool_bytes=1000)
    log.append([Label(1, ID)])
    (path,) = tmp_path.iterdir()
    fitting = -(-1000 // path.stat().st_size)
    for _ in range(1, fitting):
        log.append([Label(1, ID)])
    with pytest.raises(OSError, match="labels wait to become segments") as full:
        log.append([Label(1, ID)])
    assert full.value.errno == errno.ENOSPC
    assert len(kept_labels(tmp_path)) == fitting
    log.rotate(everything=True)
    for path in tmp_path.glob(f"*{CLOSED}"):
        path.unlink()
    log.append([Label(1, ID)])


def test_file_that_is_cut_anywhere_reads_as_its_whole_lines(tmp_path: Path) -> None:
    log = LabelLog(tmp_path, "flight_delay", HOUR_S)
    log.append([Label(i, key="k" * i) for i in range(1, 4)])
    log.rotate(everything=True)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        assert len(list(read_labels(path))) == content[:cut].count(b"\n")


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
