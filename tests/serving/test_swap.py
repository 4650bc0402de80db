"""Another version in place, by SIGHUP: nothing is lost, what is wrong changes nothing, and nothing piles up."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.serving.load import Load, metric, predict, said, samples, until
from tests.serving.service_process import Process
from tests.serving.versions import Versions

Rows = Callable[..., list[dict[str, Any]]]
SWAPS = 30
FAILED = "not swapped, the version before serves on"
# A version is some hundred kB, and what swaps would leave behind is as much each; an allocator's habits are less.
MOST_GROWTH = 24 * 1024 * 1024


@pytest.fixture(scope="module")
def versions(directories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return Versions(tmp_path_factory.mktemp("versions"), directories["binary"])


@pytest.fixture(scope="module")
def service(versions: Versions) -> Iterator[Process]:
    one = Process(versions.link)
    try:
        yield one.until_listening()
    finally:
        code = one.stop()
        one.close()
    assert code == 0


def swap(service: Process, versions: Versions, directory: Path) -> None:
    """Let the link be to another directory, and wait until the service has looked at it."""
    before = len(said(service, "swapped")) + len(said(service, FAILED))
    versions.point(directory)
    service.process.send_signal(signal.SIGHUP)
    until(lambda: len(said(service, "swapped")) + len(said(service, FAILED)) > before, "a swap")


def test_swaps_under_load_lose_nothing(service: Process, versions: Versions, make_rows: Rows) -> None:
    with Load(service, make_rows(2)) as load:
        load.wait_for(50)
        for version in (4, 3, 5, 4, 6):
            swap(service, versions, versions.put(version))
            load.wait_for(20)
    assert load.lost == []
    assert {one.lost for one in load.asked} == {""}
    assert {one.version for one in load.asked} == {3, 4, 5, 6}
    assert predict(service, make_rows(1)).version == 6


@pytest.mark.parametrize(
    ("directory", "reason"),
    [
        (Versions.damaged, "model.onnx is not the recorded file"),
        (lambda versions: versions.put(9, model="bike_demand"), "a service keeps its model, flight_delay"),
        (lambda versions: versions.link.parent / "nothing", "nothing"),
    ],
    ids=["damaged", "another model's", "missing"],
)
def test_directory_that_is_not_in_order_changes_nothing(
    service: Process, versions: Versions, make_rows: Rows, directory: Callable[[Versions], Path], reason: str
) -> None:
    swap(service, versions, versions.put(3))
    failed = metric(service, "headrace_reloads_total", outcome="failed")
    swapped = metric(service, "headrace_reloads_total", outcome="swapped")
    with Load(service, make_rows(1), clients=2) as load:
        load.wait_for(10)
        swap(service, versions, directory(versions))
        load.wait_for(10)
    event = said(service, FAILED)[-1]
    assert (event["level"], event["version"]) == ("error", 3)
    assert reason in event["reason"]
    assert {(one.status, one.version) for one in load.asked} == {(200, 3)}
    assert metric(service, "headrace_reloads_total", outcome="failed") == failed + 1
    assert metric(service, "headrace_reloads_total", outcome="swapped") == swapped
    assert metric(service, "headrace_ready", version="3") == 1
    swap(service, versions, versions.put(4))
    assert predict(service, make_rows(1)) == (200, 4, "")


def test_request_under_way_keeps_the_version_that_it_began_with(
    service: Process, versions: Versions, make_rows: Rows
) -> None:
    swap(service, versions, versions.put(3))
    slow = service.connect()
    slow.putrequest("POST", "/v1/models/flight_delay/predict")
    slow.putheader("Content-Type", "application/json")
    slow.putheader("Content-Length", "9000")
    slow.endheaders(b'{"rows":')
    # Counted about every second; its body may take ten.
    until(lambda: metric(service, "headrace_in_flight_requests") == 1, "its beginning")
    swap(service, versions, versions.put(4))
    assert predict(service, make_rows(1)).version == 4
    slow.send(b" " * (9000 - len(b'{"rows":')))
    answer = slow.getresponse()
    # 408, where this machine took more than ten seconds.
    assert answer.status in (400, 408)
    assert answer.getheader("Headrace-Version") == "3"
    slow.close()


def test_many_swaps_leave_nothing_behind(service: Process, versions: Versions, make_rows: Rows) -> None:
    process = psutil.Process(service.process.pid)

    def some(first: int, count: int) -> None:
        for version in range(first, first + count):
            swap(service, versions, versions.put(version))
            assert predict(service, make_rows(1)) == (200, version, "")

    # As many as may be kept: the one that serves, and the one before.
    some(100, 5)
    before = process.memory_info().rss, process.num_fds(), process.num_threads(), len(samples(service))
    some(200, SWAPS)
    after = process.memory_info().rss, process.num_fds(), process.num_threads(), len(samples(service))
    assert after[0] - before[0] < MOST_GROWTH
    # Connections of these tests that are not seen to be closed yet.
    assert after[1] <= before[1] + 4
    assert after[2] == before[2]
    assert after[3] <= before[3]
    # The one before is scraped once more.
    assert {one.labels["version"] for one in samples(service) if "version" in one.labels} <= {"229", "228", "227"}
