"""When the word to load again comes at a bad moment, or the loading goes wrong in a way that nobody foresaw."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.load import Load, metric, predict, said, until
from tests.serving.service_process import Process
from tests.serving.versions import Versions

Rows = Callable[..., list[dict[str, Any]]]

# The service in a process in which something happens whenever a directory is loaded: `found` is the version, the
# `count`-th one. That is the only way to a moment between two steps of it.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from serving import loading

plainly, count = loading.load, 0

def again():
    os.kill(os.getpid(), signal.SIGHUP)

def point(name):
    link = Path(os.environ["LINK"])
    new = link.with_name("new")
    new.symlink_to(link.with_name(name))
    new.replace(link)

def load(*arguments):
    global count
    count += 1
    found = plainly(*arguments)
    exec(os.environ["MEANWHILE"])
    return found

loading.load = load
from serving.__main__ import main
sys.exit(main(sys.argv[4:]))
"""


@pytest.fixture
def versions(directories: dict[str, Path], tmp_path: Path) -> Versions:
    made = Versions(tmp_path, directories["binary"])
    for version in (4, 5):
        made.put(version)
    return made


@pytest.fixture
def start(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*options: str, meanwhile: str = "") -> Process:
        monkeypatch.setenv("LINK", str(versions.link))
        monkeypatch.setenv("MEANWHILE", meanwhile)
        started.append(Process(versions.link, *options, before=[sys.executable, "-c", PROGRAM]))
        return started[-1].until_listening()

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.wait()
        one.close()


def swaps(service: Process) -> list[tuple[int, int]]:
    return [(one["before"], one["version"]) for one in said(service, "swapped")]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_told_before_it_answers_it_looks_again_once_it_does(start: Callable[..., Process], workers: str) -> None:
    """It may have read the directory that is meant no more."""
    moved = "if count == 1 and found.version == 3: point('flight_delay-4'); again()"
    service = start("--drain-s", "0", "--workers", workers, meanwhile=moved)
    until(lambda: swaps(service), "a swap")
    assert swaps(service)[0] == (3, 4)
    assert said(service, "a worker ended") == []
    assert service.stop() == 0


def test_told_again_while_it_loads_it_loads_what_is_there_then(
    start: Callable[..., Process], versions: Versions, make_rows: Rows
) -> None:
    moved = "if found.version == 4: point('flight_delay-5'); again()"
    service = start("--drain-s", "0", meanwhile=moved)
    versions.point(versions.put(4))
    service.process.send_signal(signal.SIGHUP)
    until(lambda: len(swaps(service)) == 2, "two swaps")
    assert swaps(service) == [(3, 4), (4, 5)]
    assert predict(service, make_rows(1)) == (200, 5, "")
    assert service.stop() == 0


def test_link_that_moves_while_files_are_read_does_not_mix_versions(
    start: Callable[..., Process], versions: Versions, make_rows: Rows
) -> None:
    """What is loaded is a directory, not what a link is to while its files are read one after the other."""
    service = start("--drain-s", "0", meanwhile="assert not os.path.islink(arguments[0]), arguments")
    versions.point(versions.put(4))
    service.process.send_signal(signal.SIGHUP)
    until(lambda: swaps(service), "a swap")
    assert predict(service, make_rows(1)) == (200, 4, "")


def test_many_words_at_once_lose_nothing_and_end_with_the_newest(
    start: Callable[..., Process], versions: Versions, make_rows: Rows
) -> None:
    service = start("--drain-s", "0")
    with Load(service, make_rows(1), clients=2) as load:
        load.wait_for(10)
        for version in (4, 5, 3, 5, 4, 6):
            versions.point(versions.put(version))
            for _ in range(5):
                service.process.send_signal(signal.SIGHUP)
        until(lambda: predict(service, make_rows(1)).version == 6, "the newest")
        load.wait_for(10)
    assert load.lost == []
    assert {one.lost for one in load.asked} == {""}
    assert service.stop() == 0
    assert [one["version"] for one in said(service, "stopped")] == [6]
    assert said(service, "not swapped, the version before serves on") == []


def test_draining_service_takes_no_other_version(
    start: Callable[..., Process], versions: Versions, make_rows: Rows
) -> None:
    service = start("--drain-s", "600")
    service.process.send_signal(signal.SIGTERM)
    until(lambda: service.get("/v2/health/ready")[0] == 503, "unready")
    until(lambda: metric(service, "headrace_ready") == 0, "saying so")
    versions.point(versions.put(4))
    service.process.send_signal(signal.SIGHUP)
    assert predict(service, make_rows(1)) == (200, 3, "")
    assert service.stop() == 0
    assert swaps(service) == []
    assert [one["version"] for one in said(service, "stopped")] == [3]


def test_told_to_stop_while_it_loads_it_stops_in_order(
    start: Callable[..., Process], versions: Versions, make_rows: Rows
) -> None:
    stopped = "if count == 2: os.kill(os.getpid(), signal.SIGTERM)"
    service = start("--drain-s", "600", meanwhile=stopped)
    service.process.send_signal(signal.SIGHUP)
    until(lambda: said(service, "draining"), "draining")
    assert predict(service, make_rows(1)).status == 200
    until(lambda: metric(service, "headrace_ready") == 0, "saying so")
    assert service.stop() == 0


def test_whatever_loading_raises_the_old_version_serves_on_and_the_log_says_what(
    start: Callable[..., Process], versions: Versions, make_rows: Rows
) -> None:
    service = start("--drain-s", "0", meanwhile="if count == 2: raise RuntimeError('nobody foresaw it')")
    service.process.send_signal(signal.SIGHUP)
    until(lambda: metric(service, "headrace_reloads_total", outcome="failed") == 1, "a failure")
    (event,) = said(service, "not swapped, the version before serves on")
    assert (event["reason"], event["version"]) == ("nobody foresaw it", 3)
    assert "RuntimeError" in event["exception"]
    assert predict(service, make_rows(1)) == (200, 3, "")
    versions.point(versions.put(4))
    service.process.send_signal(signal.SIGHUP)
    until(lambda: swaps(service) == [(3, 4)], "a swap")
    assert service.stop() == 0


def test_what_goes_wrong_between_requests_ends_no_service(start: Callable[..., Process], make_rows: Rows) -> None:
    broken = """
from serving.desk import Desk
def tick(self):
    raise RuntimeError("nobody foresaw it")
Desk.tick = tick
"""
    service = start("--drain-s", "0", meanwhile=broken)
    until(lambda: said(service, "what is predicted could not be counted or handed over"), "the log")
    assert predict(service, make_rows(1)).status == 200
