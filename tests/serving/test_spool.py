"""Spool files: what is whole can be read, wherever a process or a disk stopped."""

import fcntl
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace.domain.contract import Task
from serving.blocks import ID_BYTES, Block, Recorded
from serving.context import Context
from serving.keys import Keys
from serving.spool import FRAME, NO_TIME, frame, header, read_spool
from serving.spool_file import CLOSED, LABELS, OPEN, PREDICTIONS, SpoolFile, check_room, waiting
from tests.serving.conftest import FEATURES, make_contract

TASKS = ("binary", "multiclass", "regression")


def make_block(task: str, seed: int, keys: bool) -> Block:
    """Three requests of 1, 2 and 4 rows in a block with room for more."""
    random = np.random.default_rng(seed)
    shape = (9, 3) if task == "multiclass" else (9,)
    matrix = random.normal(size=(9, len(FEATURES))).astype(np.float32)
    matrix[2, 1] = np.nan
    block = Block(random.bytes(9 * ID_BYTES), matrix, random.normal(size=shape).astype(np.float32))
    for position, count in enumerate((1, 2, 4)):
        texts = ["é".encode(), b"", b"x" * 64, b"y"][:count]
        said = Keys([texts], [5, None, -1, 7][:count]) if keys and position else None
        block.requests.append(Recorded(position, count, Context(b"r%d" % position, position, b"a" * 32), said))
        block.used += count
    return block


@cache
def whole(task: Task) -> tuple[bytes, tuple[int, ...], tuple[Block, ...]]:
    """A file, the positions at which its header and its blocks end, and these."""
    contract = make_contract(task)
    blocks = tuple(make_block(task, seed, keys=seed != 1) for seed in range(3))
    parts = [header(contract, 3), *(bytes(frame(block, contract)) for block in blocks)]
    return b"".join(parts), tuple(np.cumsum([len(part) for part in parts]).tolist()), blocks


def check(read: dict[str, np.ndarray], block: Block) -> None:
    used = block.used
    assert tuple(read) == FRAME
    assert read["request_rows"].tolist() == [one.row_count for one in block.requests]
    assert read["request_time_us"].tolist() == [one.time_us for one in block.requests]
    assert read["request_role"].tolist() == [one.context.role for one in block.requests]
    assert read["request_id"].tolist() == [one.context.request_id for one in block.requests]
    assert read["trace_id"].tolist() == [one.context.trace_id for one in block.requests]
    assert read["prediction_id"].tobytes() == block.ids[: used * ID_BYTES]
    assert read["features"].tobytes() == block.matrix[:used].tobytes()
    assert read["predictions"].tobytes() == block.outputs[:used].tobytes()
    texts, times = [], []
    for one in block.requests:
        texts += one.keys.values[0] if one.keys else [b""] * one.row_count
        times += one.keys.decision_time_us if one.keys else [None] * one.row_count
    has_any = any(one.keys for one in block.requests)
    assert read["keys"][:, 0].tolist() == (texts if has_any else [])
    expected = [NO_TIME if time is None else time for time in times]
    assert read["decision_time_us"].tolist() == (expected if has_any else [])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(TASKS), st.floats(0, 1))
@example("binary", 0.0)
@example("multiclass", 1.0)
def test_file_that_is_cut_anywhere_reads_as_its_whole_blocks(tmp_path: Path, task: Task, share: float) -> None:
    content, ends, blocks = whole(task)
    cut = round(share * len(content))
    path = tmp_path / "cut"
    path.write_bytes(content[:cut])
    said, found = read_spool(path)
    read = list(found)
    assert len(read) == max(sum(end <= cut for end in ends) - 1, 0)
    for one, block in zip(read, blocks, strict=False):
        check(one, block)
    assert bool(said) == (cut >= ends[0])


@pytest.mark.parametrize("task", TASKS)
def test_file_that_is_cut_just_around_the_ends_of_blocks(tmp_path: Path, task: Task) -> None:
    content, ends, _ = whole(task)
    for whole_blocks, end in enumerate(ends):
        for cut, expected in ((end - 1, max(whole_blocks - 1, 0)), (end, whole_blocks), (end + 1, whole_blocks)):
            (tmp_path / "cut").write_bytes(content[:cut])
            assert len(list(read_spool(tmp_path / "cut")[1])) == expected


def test_header_says_what_the_arrays_mean(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(whole("multiclass")[0])
    said, _ = read_spool(tmp_path / "file")
    assert (said["model"], said["version"], said["task"]) == ("flight_delay", 3, "multiclass")
    assert said["classes"] == ["early", "on_time", "late"]
    assert [one["name"] for one in said["features"]] == [one.name for one in FEATURES]
    assert said["keys"] == ["flight_id"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[]\n", "form 1"),
        (b"{}\n", "form 1"),
        (b'{"schema_version": 2}\n', "form 1"),
        (b"\x93NUMPY\n", "decode"),
        (b"NUMPY\n", "Expecting value"),
    ],
)
def test_what_is_no_spool_file_is_said(tmp_path: Path, line: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(line)
    with pytest.raises(ValueError, match=reason):
        read_spool(tmp_path / "file")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that has no more room for a file than this: a write goes as far as it can, and the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("durable", [False, True])
def test_record_that_does_not_fit_leaves_nothing_and_the_next_is_whole(tmp_path: Path, durable: bool) -> None:
    file = SpoolFile(tmp_path, PREDICTIONS, "m")
    file.append(b"first")
    with files_of_at_most(8), pytest.raises(OSError, match="too large"):
        file.append(b"0123456789", durable)
    assert file.path.read_bytes() == b"first"
    assert (file.bytes, file.torn) == (5, False)
    file.append(b"second", durable)
    assert file.path.read_bytes() == b"firstsecond"
    file.discard()


def test_half_a_record_that_can_not_be_removed_is_known(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path, PREDICTIONS, "m")
    # Of a read-only descriptor neither writing nor cutting works.
    os.dup2(fd := os.open(file.path, os.O_RDONLY), file._fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.append(b"x")
    assert file.torn
    file.discard()


def test_open_file_is_its_writers_alone_and_then_nobodys(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path, LABELS, "m")
    with file.path.open("rb") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert waiting(tmp_path) == []
        assert waiting(tmp_path, left_over=True) == [file.path]
        file.finish()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (closed,) = waiting(tmp_path)
    assert (closed.stem, closed.suffix) == (file.path.stem, CLOSED)
    assert file.path.suffix == OPEN


def test_file_that_is_discarded_is_gone(tmp_path: Path) -> None:
    SpoolFile(tmp_path, LABELS, "m").discard()
    assert list(tmp_path.iterdir()) == []


def test_files_that_wait_count_against_the_room_of_their_kind_alone(tmp_path: Path) -> None:
    (tmp_path / f"{LABELS}-a{OPEN}").write_bytes(b"12345")
    (tmp_path / f"{LABELS}-b{CLOSED}").write_bytes(b"12345")
    check_room(tmp_path, PREDICTIONS, 1)
    check_room(tmp_path, LABELS, 11)
    with pytest.raises(OSError, match="10 bytes of labels wait"):
        check_room(tmp_path, LABELS, 10)
