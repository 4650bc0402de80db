"""What may go wrong around several processes: one dies beside a request, cannot be waited for, or fails unforeseen."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.serving.load import PATH, metric, predict, said, until
from tests.serving.service_process import DEADLINE_S, Process

Rows = Callable[..., list[dict[str, Any]]]

# Who starts the service wants to know nothing of its children, and so does what it starts.
IGNORING = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
FAILING = """
import sys
from serving import loading
def load(*arguments):
    raise RuntimeError("nobody foresaw it")
loading.load = load
from serving.__main__ import main
sys.exit(main(sys.argv[4:]))
"""


@pytest.fixture
def start(directories: dict[str, Path]) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*options: str, **more: Any) -> Process:
        started.append(Process(directories["binary"], "--workers", "2", "--drain-s", "0", *options, **more))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.wait()
        one.close()


def until_both_listen(service: Process) -> list[psutil.Process]:
    """The workers, once both listen."""
    service.until_listening()
    until(lambda: len(said(service, "listening")) == 2, "listening")
    return psutil.Process(service.process.pid).children()


def test_request_beside_a_worker_that_is_killed_is_answered(start: Callable[..., Process], make_rows: Rows) -> None:
    service = start()
    stays, goes = until_both_listen(service)
    slow = service.connect()
    slow.putrequest("POST", PATH)
    slow.putheader("Content-Type", "application/json")
    slow.putheader("Content-Length", "12")
    # So that it is the other one that takes the connection.
    goes.suspend()
    try:
        slow.endheaders(b'{"rows":')
        until(lambda: metric(service, "headrace_in_flight_requests") == 1, "its beginning")
        goes.kill()
        until(lambda: len(said(service, "listening")) == 3, "another worker")
        assert predict(service, make_rows(1)).status == 200
        slow.send(b"[]}\n")
        answer = slow.getresponse()
        # 408, where this machine took more than ten seconds.
        assert answer.status in (400, 408)
        assert stays.is_running()
    finally:
        slow.close()
    assert service.stop() == 0


def test_workers_are_replaced_whatever_the_starter_does_with_its_children(start: Callable[..., Process]) -> None:
    service = start(before=[sys.executable, "-c", IGNORING])
    first, _ = until_both_listen(service)
    first.kill()
    until(lambda: len(said(service, "listening")) == 3, "another worker")
    assert service.stop() == 0


def test_worker_that_fails_unforeseen_says_how(start: Callable[..., Process]) -> None:
    service = start(before=[sys.executable, "-c", FAILING])
    assert service.wait() == 1
    (event,) = said(service, "a worker failed")
    assert "nobody foresaw it" in event["exception"]


def test_parent_has_no_thread_that_a_fork_would_lose(start: Callable[..., Process]) -> None:
    service = start()
    until_both_listen(service)
    assert psutil.Process(service.process.pid).num_threads() == 1
    assert service.stop() == 0


def test_second_signal_does_not_wait_for_the_first_to_be_done(start: Callable[..., Process], make_rows: Rows) -> None:
    service = start("--drain-s", "600")
    until_both_listen(service)
    service.process.send_signal(signal.SIGTERM)
    until(lambda: len(said(service, "draining")) == 2, "draining")
    assert service.stop() == 0


def test_model_library_reports_to_nobody(tmp_path: Path) -> None:
    """Else it would keep a database at home, and a thread that sends what is in it."""
    program = "import serving.model, threading, pathlib; print(len(list(pathlib.Path('/proc/self/task').iterdir())))"
    # In the automation of builds it keeps quiet by itself.
    quiet = ("CI", "ORT_DISABLE_TELEMETRY", "OPENBLAS_NUM_THREADS", "ORT_RUNNING_UNIT_TESTS")
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=DEADLINE_S, cwd=Path.cwd()
    )
    assert done.stdout == "1\n"
    assert list(tmp_path.iterdir()) == []
