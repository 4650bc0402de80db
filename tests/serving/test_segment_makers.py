"""The process that makes segments: killed, waiting for its turn, with nothing to do or no place to write to."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from serving.spool import frame, header
from serving.spool_file import CLOSED, LABELS, OPEN, PREDICTIONS, SpoolFile
from tests.serving.conftest import make_contract
from tests.serving.logged import make_segments, read_rows, segments, waiting_files
from tests.serving.test_segment_fields import make_block, write

DEADLINE_S = 30
CONTRACT = make_contract("binary")
ROWS = 4


def make_file(folder: Path) -> None:
    """A spool file with one block."""
    write(folder, CONTRACT, [make_block("binary")])


def start(folder: Path, to: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "serving.segments", str(folder), to]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(maker: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
    """Its exit code, and what it logged: nothing but JSON."""
    out, err = maker.communicate(timeout=DEADLINE_S)
    assert out == ""
    return maker.returncode, [json.loads(line) for line in err.splitlines()]


# Dies at the very moment at which a segment is there and its spool file is too.
DYING = """
import os, signal, sys
from pathlib import Path
from serving import segments
from serving.parquet import Segments

class Dying(Segments):
    def write(self, *segment):
        super().write(*segment)
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
segments._deal_with(segments.whole_files(folder / "spool")[0], Dying(sys.argv[1]))
"""


def test_every_prediction_is_there_once_though_makers_die_between_segment_and_file(tmp_path: Path) -> None:
    for _ in range(3):
        make_file(tmp_path)
    for _ in range(2):
        dying = subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], timeout=DEADLINE_S, check=False)
        assert dying.returncode == -signal.SIGKILL
        assert len(segments(tmp_path)) == 1
        assert len(waiting_files(tmp_path)) == 3
    assert make_segments(tmp_path) == 0
    assert len(read_rows(tmp_path)) == 3 * ROWS
    assert len(segments(tmp_path)) == 3
    assert waiting_files(tmp_path) == []


def test_second_maker_waits_for_the_first_and_sees_what_came_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    with (tmp_path / "spool" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        maker = start(tmp_path)
        inode = os.fstat(lock.fileno()).st_ino
        deadline = time.monotonic() + DEADLINE_S
        # In the kernel's list those that wait have an arrow.
        while not any("->" in line and f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines()):
            assert maker.poll() is None, maker.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        make_file(tmp_path)
    assert finish(maker) == (0, [])
    assert len(read_rows(tmp_path)) == ROWS
    assert waiting_files(tmp_path) == []


def test_block_that_a_dead_process_left_half_is_said_and_the_others_are_kept(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    dead = SpoolFile(tmp_path / "spool", PREDICTIONS, "flight_delay-v3")
    dead.append(header(CONTRACT, 3))
    dead.append(whole := bytes(frame(make_block("binary"), CONTRACT)))
    dead.append(whole[:-1])
    os.close(dead._fd)
    code, (event,) = finish(start(tmp_path))
    assert (code, event["event"]) == (0, "the last block of a file is not whole and is left out")
    assert event["bytes"] == len(whole) - 1
    assert len(read_rows(tmp_path)) == ROWS
    assert waiting_files(tmp_path) == []


def test_files_without_anything_whole_make_no_segment_and_go(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    for kind, half in ((PREDICTIONS, header(CONTRACT, 3)[:-1]), (LABELS, b"{")):
        for name, content in (("empty", b""), ("half", half)):
            (tmp_path / "spool" / f"{kind}-{name}{CLOSED}").write_bytes(content)
        # Its process died before it could lock it, long ago.
        old = tmp_path / "spool" / f"{kind}-old{OPEN}"
        old.touch()
        os.utime(old, (0, 0))
    assert finish(start(tmp_path)) == (0, [])
    assert waiting_files(tmp_path) == []
    assert segments(tmp_path) == segments(tmp_path, LABELS) == []


def test_place_that_can_not_be_written_is_not_tried_for_ever(tmp_path: Path) -> None:
    for _ in range(5):
        make_file(tmp_path)
    (tmp_path / "file").touch()
    code, events = finish(start(tmp_path, str(tmp_path / "file" / "folder")))
    assert code == 4
    assert [event["event"] for event in events] == ["a segment can't be written"] * 3 + ["spool files are kept"]
    assert events[-1]["files"] == 5
    assert len(waiting_files(tmp_path)) == 5


@pytest.mark.parametrize("url", ["s3://key:pa%20ss-word@bucket?nonsense=1", "s4://key:pa%20ss-word@bucket"])
def test_url_of_no_bucket_keeps_the_files_and_is_not_repeated(tmp_path: Path, url: str) -> None:
    make_file(tmp_path)
    code, events = finish(start(tmp_path, url))
    assert (code, [event["event"] for event in events]) == (4, ["segments can't be written"])
    assert "ss-word" not in json.dumps(events)
    assert len(waiting_files(tmp_path)) == 1


def test_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    code, (event,) = finish(start(tmp_path / "nowhere"))
    assert (code, event["event"], event["kind"]) == (4, "segments can't be made", "FileNotFoundError")


def test_maker_without_work_loads_no_library_for_it() -> None:
    heavy = ("pyarrow", "onnxruntime", "prometheus_client", "starlette")
    program = f"import sys, serving.segments; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    assert done.stdout == "[]\n"
