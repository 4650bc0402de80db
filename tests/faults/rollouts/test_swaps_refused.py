"""Fault 5 in place: what is put in the directory of a running service and is not in order is not served.

Under constant load behind the proxy, all on one service: the version before serves on, every time.
"""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from headrace.adapters.local import loopback
from headrace.documents import write_json
from headrace.domain.split import Split
from tests import fakes
from tests.contract.conftest import eventually
from tests.contract.traffic import Traffic
from tests.faults.rollouts.damage import UNPACKED_BYTES, WRONG, pickled
from tests.faults.rollouts.platform import Rollouts
from tests.serving.conftest import seal

MODEL = "swapped"


@dataclass
class Swapped:
    """A release whose directory is a link, and the traffic of its model."""

    folder: Path
    process: psutil.Process
    metrics: Callable[[], str]
    log: Callable[[], list[str]]
    traffic: Traffic
    made: int = field(default=0)

    def put(self, directory: Path) -> None:
        """Make the link lead to a directory, and tell the service to look again."""
        half = self.folder / "current.new"
        half.symlink_to(directory)
        half.replace(self.folder / "current")
        self.process.send_signal(signal.SIGHUP)

    def count(self, outcome: str) -> int:
        """How many swaps ended this way."""
        lines = [
            line
            for line in self.metrics().splitlines()
            if line.startswith(f'headrace_reloads_total{{outcome="{outcome}"')
        ]
        return int(float(lines[0].split()[-1])) if lines else 0

    def copy(self, version: int = 1) -> Path:
        """A directory in order, of one's own."""
        self.made += 1
        return directory_of(self.folder / "trained", self.folder / f"copy-{self.made}", version)

    def refuses(self, directory: Path, why: str) -> None:
        """Put it in place, and see it refused with that sentence, while the version before serves on."""
        before = self.count("failed")
        self.put(directory)
        eventually(lambda: self.count("failed") == before + 1)
        event = next(
            event for event in map(json.loads, reversed(self.log())) if event["event"].startswith("not swapped")
        )
        assert why in event["reason"], event
        self.traffic.mark()
        self.traffic.wait_for(20)
        assert set(self.traffic.answered) == {1}


def directory_of(trained: Path, to: Path, version: int) -> Path:
    """A copy for the model of this file."""
    shutil.copytree(trained, to)
    contract = json.loads((to / "contract.json").read_text())
    write_json(to / "contract.json", contract | {"model": MODEL})
    seal(to)
    manifest = json.loads((to / "manifest.json").read_text())
    write_json(to / "manifest.json", manifest | {"model": MODEL, "version": version})
    return to


@pytest.fixture(scope="module")
def swapped(rollouts: Rollouts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swapped]:
    """Version 1 in service behind the proxy; no request may be lost from here to the end."""
    folder = tmp_path_factory.mktemp("swapped")
    shutil.copytree(rollouts.trained, folder / "trained")
    (folder / "current").symlink_to(directory_of(folder / "trained", folder / "first", 1))
    house = rollouts.house
    endpoint = rollouts.deployer.start(fakes.model_version(1, MODEL), folder / "current", timeout_s=60)
    house.split(MODEL, Split(1))
    process = house.process("swapped-v1")
    assert process

    def metrics() -> str:
        answer = loopback.get(f"{endpoint.url}/metrics", 5.0)
        assert answer
        return answer.body.decode()

    def log() -> list[str]:
        return house.processes.log_tail("swapped-v1", line_count=5)

    with Traffic(house.url, MODEL, body=house.body) as traffic:
        yield Swapped(folder, process, metrics, log, traffic)
    assert traffic.lost == []
    rollouts.forget(MODEL)


def unpacked_bytes(process: psutil.Process) -> int:
    """The most memory that the process ever had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.parametrize("name", WRONG)
def test_file_that_is_not_the_recorded_one_is_refused_before_it_is_parsed(swapped: Swapped, name: str) -> None:
    directory = swapped.copy()
    model = directory / "model.onnx"
    model.write_bytes(WRONG[name](model.read_bytes()))
    before = unpacked_bytes(swapped.process)
    swapped.refuses(directory, "model.onnx is not the recorded file: sha256 is ")
    assert unpacked_bytes(swapped.process) - before < UNPACKED_BYTES / 2


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("of another type", "model.onnx can't be loaded"),
        ("zip bomb", "model.onnx can't be loaded"),
        ("weights in another file", "External data path"),
    ],
)
def test_recorded_file_that_is_no_model_by_itself_is_refused(swapped: Swapped, name: str, why: str) -> None:
    directory = swapped.copy()
    model = directory / "model.onnx"
    model.write_bytes(WRONG[name](model.read_bytes()))
    record(directory)
    before = unpacked_bytes(swapped.process)
    swapped.refuses(directory, why)
    assert unpacked_bytes(swapped.process) - before < UNPACKED_BYTES / 2


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", "golden.json", "manifest.json"])
def test_pickle_is_never_unpickled(swapped: Swapped, tmp_path: Path, name: str) -> None:
    directory, marker = swapped.copy(), tmp_path / "unpickled"
    (directory / name).write_bytes(pickled(marker))
    if name != "manifest.json":
        record(directory)
    swapped.refuses(directory, name)
    assert not marker.exists()


def test_directory_that_is_gone_is_refused(swapped: Swapped) -> None:
    swapped.refuses(swapped.folder / "nothing", "is not a model directory")


def test_directory_in_order_is_served_after_all_that(swapped: Swapped) -> None:
    swapped.put(swapped.copy(version=2))
    eventually(lambda: swapped.count("swapped") == 1)
    swapped.traffic.mark()
    swapped.traffic.wait_for(50)
    assert set(swapped.traffic.answered) == {2}


def record(directory: Path) -> None:
    """Write into the manifest what is there now."""
    manifest = json.loads((directory / "manifest.json").read_text())
    seal(directory)
    write_json(
        directory / "manifest.json",
        manifest | {"files": json.loads((directory / "manifest.json").read_text())["files"]},
    )
