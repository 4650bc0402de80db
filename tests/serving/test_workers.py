"""Several processes on one port, as one service: counted together, replaced, drained, swapped and ended together."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.serving.load import Load, metric, predict, said, until
from tests.serving.service_process import DEADLINE_S, Process
from tests.serving.versions import Versions

Rows = Callable[..., list[dict[str, Any]]]


def workers(service: Process) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children()


def until_all_listen(service: Process, count: int = 2) -> Process:
    until(lambda: len(said(service, "listening")) >= count or service.process.poll() is not None, "listening")
    assert service.process.poll() is None, service.events
    return service


def is_over(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the services of a test put their temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def start(temporary: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(directory: Path, *options: str) -> Process:
        started.append(Process(directory, "--workers", "2", *options, own_group=True))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            # Its workers follow.
            one.process.kill()
        one.wait()
        one.close()


@pytest.fixture(scope="module")
def versions(directories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return Versions(tmp_path_factory.mktemp("versions"), directories["binary"])


@pytest.fixture(scope="module")
def pair(versions: Versions) -> Iterator[Process]:
    """A service with two workers, for the tests that leave it with two."""
    service = Process(versions.link, "--workers", "2", "--drain-s", "0")
    try:
        yield until_all_listen(service.until_listening())
    finally:
        code = service.stop()
        service.close()
    assert code == 0


def test_metrics_of_all_workers_add_up(pair: Process, make_rows: Rows) -> None:
    before = metric(pair, "headrace_requests_total", status="200")
    rows_before = metric(pair, "headrace_rows_total")
    first, second = workers(pair)
    for stopped, count in ((first, 5), (second, 7)):
        # So that the other one has to answer.
        stopped.suspend()
        try:
            assert [predict(pair, make_rows(2)).status for _ in range(count)] == [200] * count
        finally:
            stopped.resume()
    until(lambda: metric(pair, "headrace_requests_total", status="200") == before + 12, "counting")
    assert metric(pair, "headrace_rows_total") == rows_before + 24
    assert metric(pair, "headrace_ready") == 1


def test_killed_worker_is_replaced_and_no_counter_goes_back(pair: Process, make_rows: Rows) -> None:
    count = metric(pair, "headrace_requests_total", status="200")
    for _ in range(20):
        predict(pair, make_rows(1))
    until(lambda: metric(pair, "headrace_requests_total", status="200") == count + 20, "counting")
    count += 20
    old = workers(pair)
    old[0].kill()
    until(lambda: is_over(old[0]), "its end")

    def is_replaced() -> bool:
        assert predict(pair, make_rows(1)).status == 200
        found = metric(pair, "headrace_requests_total", status="200")
        nonlocal count
        assert found >= count
        count = found
        return len(workers(pair)) == 2 and old[0] not in workers(pair)

    listening = len(said(pair, "listening"))
    until(is_replaced, "another worker")
    until_all_listen(pair, listening + 1)
    assert said(pair, "a worker ended")[-1]["exit_code"] == -signal.SIGKILL
    assert metric(pair, "headrace_ready") == 1
    assert metric(pair, "headrace_in_flight_requests") == 0


def test_sighup_swaps_all_workers(pair: Process, versions: Versions, make_rows: Rows) -> None:
    before = metric(pair, "headrace_reloads_total", outcome="swapped")
    versions.point(versions.put(4))
    pair.process.send_signal(signal.SIGHUP)
    until(lambda: metric(pair, "headrace_reloads_total", outcome="swapped") == before + 2, "two swaps")
    for stopped in workers(pair):
        stopped.suspend()
        try:
            assert predict(pair, make_rows(1)) == (200, 4, "")
        finally:
            stopped.resume()


def test_worker_that_can_not_start_is_tried_again_while_the_others_serve(
    pair: Process, versions: Versions, make_rows: Rows
) -> None:
    versions.point(versions.damaged())
    workers(pair)[0].kill()
    until(lambda: [one for one in said(pair, "a worker ended") if one["exit_code"] == 6], "an attempt")
    assert predict(pair, make_rows(1)).status == 200
    versions.point(versions.put(3))
    listening = len(said(pair, "listening"))
    until_all_listen(pair, listening + 1)
    assert len(workers(pair)) == 2


@pytest.mark.parametrize("told", ["parent", "group"])
def test_sigterm_under_load_loses_nothing(start, directories, make_rows: Rows, temporary: Path, told: str) -> None:
    """A supervisor may tell the whole group: a worker must not take that for the second signal, and go at once."""
    service = until_all_listen(start(directories["binary"], "--drain-s", "600").until_listening())
    everyone = workers(service)

    def tell() -> None:
        (os.kill if told == "parent" else os.killpg)(service.process.pid, signal.SIGTERM)

    with Load(service, make_rows(3), clients=6) as load:
        load.wait_for(100)
        tell()
        until(lambda: load.gone, "leaving")
    assert load.lost == []
    assert len(load.asked) > 100
    until(lambda: len(said(service, "draining")) == 2, "draining")
    # Who comes now is still answered, and asked to go.
    assert service.get("/v2/health/ready")[0] == 503
    assert predict(service, make_rows(1)).status == 200
    tell()
    assert service.wait() == 0
    assert all(is_over(one) for one in everyone)
    assert list(temporary.iterdir()) == []
    assert len(said(service, "stopped")) == 2


@pytest.mark.parametrize("told", ["parent", "group"])
def test_ctrl_c_is_exit_130(start, directories, told: str) -> None:
    service = until_all_listen(start(directories["binary"], "--drain-s", "0").until_listening())
    everyone = workers(service)
    (os.kill if told == "parent" else os.killpg)(service.process.pid, signal.SIGINT)
    assert service.wait() == 130
    assert all(is_over(one) for one in everyone)


def test_sigterm_before_anything_is_served_ends_it_clean(start, directories, temporary: Path) -> None:
    service = start(directories["binary"])
    until(lambda: list(temporary.iterdir()), "the beginning")
    assert service.stop() == 0
    assert list(temporary.iterdir()) == []


def test_directory_that_is_damaged_ends_all_with_its_exit_code(versions: Versions, temporary: Path) -> None:
    command = [sys.executable, "-m", "serving", "--directory", str(versions.damaged()), "--port", "0", "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0) as service:
        said = service.communicate(timeout=DEADLINE_S)[1]
    assert service.returncode == 6
    assert said.count("\n") == 1
    assert "model.onnx is not the recorded file" in said
    assert list(temporary.iterdir()) == []
    # A worker that stayed would be in the group.
    with pytest.raises(ProcessLookupError):
        os.killpg(service.pid, 0)


def test_killed_parent_leaves_no_worker_and_no_file(start, directories, temporary: Path) -> None:
    service = until_all_listen(start(directories["binary"], "--drain-s", "0").until_listening())
    everyone = workers(service)
    service.process.kill()
    assert service.process.wait(DEADLINE_S) == -signal.SIGKILL
    until(lambda: all(is_over(one) for one in everyone), "the workers' end")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", service.port)) != 0
    assert list(temporary.iterdir()) == []
