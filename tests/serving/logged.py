"""What a service is asked and told, and what is then in its log."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from serving.spool import read_spool
from tests.serving.service_process import DEADLINE_S, Process

PREDICT = "/v1/models/flight_delay/predict"
LABELS = "/v1/models/flight_delay/labels"
FOREVER = ("--drain-s", "0", "--prediction-log-rotate-s", "86400")


@contextmanager
def service(directory: Path, folder: Path, *options: str) -> Iterator[Process]:
    """A service with a log that rotates only at its end, unless told otherwise; gone afterwards."""
    one = Process(directory, "--prediction-log", str(folder), *FOREVER, *options)
    try:
        yield one.until_listening()
    finally:
        one.process.kill()
        one.wait()
        one.close()


def post(one: Process, path: str, body: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Status, headers with names in lower case, and the JSON of an answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with closing(one.connect()) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, data, {"content-type": "application/json", **named})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())


def predict(one: Process, rows: list[dict[str, Any]], **headers: str) -> list[str]:
    """The ids of the predictions."""
    status, _, answer = post(one, PREDICT, {"rows": rows}, **headers)
    assert status == 200, answer
    return [prediction["id"] for prediction in answer["predictions"]]


def metric(one: Process, sample: str) -> float:
    """The value of a sample, 0 where it is not there yet."""
    lines = one.get("/metrics")[1].decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{sample} ")), 0.0)


def eventually(condition: Callable[[], object]) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def waiting_files(folder: Path) -> list[str]:
    """Names of what is in the spool."""
    return sorted(path.name for path in (folder / "spool").iterdir() if path.name != "lock")


def spooled_rows(folder: Path) -> int:
    """How many predictions wait in the spool."""
    found = 0
    for path in (folder / "spool").glob("predictions-*"):
        found += sum(len(block["prediction_id"]) for block in read_spool(path)[1])
    return found


def segments(folder: Path, kind: str = "predictions") -> list[Path]:
    """Parquet files; whatever else is there has no business there."""
    found = [path for path in (folder / kind).rglob("*") if path.is_file()]
    assert all(path.suffix == ".parquet" and not path.name.startswith(".") for path in found), found
    return sorted(found)


def read_rows(folder: Path, kind: str = "predictions") -> list[dict[str, Any]]:
    """All rows of all segments."""
    return [row for path in segments(folder, kind) for row in pq.ParquetFile(path).read().to_pylist()]


def make_segments(folder: Path, to: str = "") -> int:
    """Run what makes segments; its exit code."""
    command = [sys.executable, "-m", "serving.segments", str(folder), to]
    return subprocess.run(command, capture_output=True, check=False).returncode


@contextmanager
def small_disk(folder: Path, size: str = "2m") -> Iterator[Path]:
    """A disk of its own at a folder; skips the test where none can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "headrace-test", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 - umount is where it is


def fill(disk: Path) -> Path:
    """Take all room of a disk; the file that does."""
    filler = disk / "filler"
    fd = os.open(filler, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(fd, bytes(4096))
    except OSError as full:
        assert full.errno == errno.ENOSPC  # noqa: PT017 - the loop ends in no other way
    finally:
        os.close(fd)
    return filler
