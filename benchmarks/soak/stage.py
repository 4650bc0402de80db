"""Where it takes place: Traefik before three releases of two models, below a folder.

pair     version 1: two workers, swapped, one worker killed now and then  ┐ half of the traffic each
         version 2: one process, killed now and then                       ┘
single   version 1: one process, swapped
"""

import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks.soak.complaints import complaints
from benchmarks.soak.growth import Sizes, sizes
from benchmarks.soak.material import DIRECTORIES, MODELS, PAIR, PAIRED_VERSION, SINGLE, Estimator, Store
from headrace.adapters.local import leftovers, loopback, ports, traefik
from headrace.adapters.local.process_deployer import ProcessDeployer, serving_command
from headrace.adapters.local.processes import Processes
from headrace.adapters.local.traefik_router import TraefikRouter
from headrace.domain.lineage import release_name
from headrace.domain.split import Split
from headrace.errors import Unavailable
from headrace.settings import HOST, Settings
from tests import fakes

ROOT = Path(__file__).parents[2]
ROTATE_S = 20
WORKERS = 2
SWAPPED = {PAIR: WORKERS, SINGLE: 1}
"""Model to the number of processes of its version 1, which is swapped."""
_READY_S = 60.0
_SWAP_S = 20.0
_RELOADS = re.compile(r'^headrace_reloads_total\{outcome="(\w+)"[^}]*\} ([0-9.]+)', re.MULTILINE)


@dataclass(frozen=True)
class Release:
    """A release and its processes: the first, and the workers that it forked, oldest first."""

    name: str
    first: psutil.Process
    workers: tuple[psutil.Process, ...]


class Stage:
    """Everything that runs; `close` ends it."""

    def __init__(self, folder: Path) -> None:
        first = ports.next_free(23_000)
        taken = [first]
        while len(taken) < 4:
            taken.append(ports.next_free(taken[-1] + 1))
        self.settings = Settings(folder, folder / "home", taken[0], taken[1], taken[2], taken[3])
        self.folder = folder
        self.store = Store(folder / "online.db")
        self.processes = Processes(self.settings.home)
        self.log = folder / "predictions"
        # What the service keeps in temporary files is looked at.
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self._urls: dict[tuple[str, int], str] = {}

    def start(self, estimators: Mapping[str, Estimator]) -> None:
        """Make the models and start everything."""
        router = TraefikRouter(self.settings, self.processes, self._urls_of)
        self.processes.declare(traefik.program(self.settings))
        self._wait_for_the_proxy()
        for model in MODELS:
            place = self.folder / "models" / model
            for name, version in DIRECTORIES.items():
                estimators[name].write(place / name, model, version)
            (place / "current").symlink_to("a")
            self._start(model, DIRECTORIES["a"], place / "current", SWAPPED[model])
        paired = estimators["a"].write(self.folder / "models" / PAIR / "paired", PAIR, PAIRED_VERSION)
        self._start(PAIR, PAIRED_VERSION, paired, 1)
        router.write(PAIR, Split(DIRECTORIES["a"], PAIRED_VERSION, 50), 0, "")
        router.write(SINGLE, Split(DIRECTORIES["a"]), 0, "")

    @property
    def url(self) -> str:
        """Where clients reach the models."""
        return f"http://{HOST}:{self.settings.http_port}"

    def release(self, model: str, version: int) -> Release | None:
        """None while it does not run."""
        name = release_name(model, version)
        state = next(state for state in self.processes.states() if state.name == name)
        with contextlib.suppress(psutil.Error):
            if state.pid:
                first = psutil.Process(state.pid)
                command = first.cmdline()
                workers = [child for child in first.children() if _command(child) == command]
                return Release(name, first, tuple(sorted(workers, key=psutil.Process.create_time)))
        return None

    def swap(self, model: str, name: str) -> bool:
        """Put a directory in the place of another, tell the service, and see whether all its processes took it."""
        place, before = self.folder / "models" / model, self.reloads(model)
        half = place / "current.new"
        half.symlink_to(name)
        half.replace(place / "current")
        found = self.release(model, DIRECTORIES["a"])
        if found is None:
            return False
        found.first.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + _SWAP_S
        while self.reloads(model).get("swapped", 0) < before.get("swapped", 0) + SWAPPED[model]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def reloads(self, model: str) -> dict[str, float]:
        """How many swaps of version 1 there were, by outcome."""
        return {outcome: float(count) for outcome, count in _RELOADS.findall(self.metrics(model, DIRECTORIES["a"]))}

    def metrics(self, model: str, version: int) -> str:
        """The metrics of a release; empty while it gives none."""
        answer = loopback.get(f"{self._urls[model, version]}/metrics", 5.0)
        return answer.body.decode() if answer and answer.status == 200 else ""

    def dropped(self) -> float:
        """Predictions that the services say they could not log, since each was started."""
        texts = [self.metrics(model, version) for model, version in self._urls]
        lines = [line for text in texts for line in text.splitlines() if line.startswith("headrace_log_dropped_rows")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def hold(self) -> dict[tuple[str, int], Sizes]:
        """What every process holds now, by what it is and its id."""
        found: dict[str, list[psutil.Process]] = {
            "supervisord": leftovers.daemons(os.path.realpath(self.settings.home))
        }
        for state in self.processes.states():
            if state.name == traefik.NAME and state.pid:
                found["Traefik"] = [psutil.Process(state.pid)]
        for model, version in self._urls:
            release = self.release(model, version)
            if release:
                name = f"`{release.name}`"
                found[f"{name}, parent" if release.workers else name] = [release.first]
                found[f"{name}, workers"] = list(release.workers)
        held = {(name, one.pid): sizes(one.pid) for name, family in found.items() for one in family}
        return {key: value for key, value in held.items() if value is not None}

    def files(self) -> dict[str, float]:
        """Files and kilobytes of what is kept on the disk, but for the segments."""
        logs = {path for path in (self.settings.home / "logs").iterdir() if path.is_file()}
        proxys = {path for path in logs if path.name.startswith(traefik.NAME)}
        spool = list((self.log / "spool").iterdir()) if (self.log / "spool").is_dir() else []
        scratch = [path for path in self.scratch.rglob("*") if path.is_file()]
        return {
            "logs, kB": _kilobytes(logs - proxys),
            "log of Traefik, kB": _kilobytes(proxys),
            "spool, kB": _kilobytes(spool),
            "spool, files": len(spool),
            "metrics of workers, kB": _kilobytes(scratch),
            "metrics of workers, files": len(scratch),
            "page of `/metrics`, kB": len(self.metrics(PAIR, DIRECTORIES["a"])) / 1e3,
        }

    def said(self, release: str) -> Counter[str]:
        """The errors and warnings in a program's log, without what is another one every time."""
        return complaints(self.processes.log(release).read_text(errors="replace").splitlines())

    def close(self) -> None:
        """End everything.

        Raises:
            Unavailable: something stays.
        """
        self.processes.stop_all()
        left = leftovers.tethered(os.path.realpath(self.settings.home))
        if left:
            raise Unavailable(f"still running: {left}")

    def _deployer(self, workers: int) -> ProcessDeployer:
        environment = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src"))), "TMPDIR": str(self.scratch)}
        options = ("--workers", str(workers), "--prediction-log", str(self.log), "--online-store", self.store.url)
        options += ("--prediction-log-rotate-s", str(ROTATE_S))
        command = partial(serving_command, options=options)
        return ProcessDeployer(self.settings, self.processes, command, environment)

    def _start(self, model: str, version: int, directory: Path, workers: int) -> None:
        endpoint = self._deployer(workers).start(fakes.model_version(version, model), directory, _READY_S)
        self._urls[model, version] = endpoint.url

    def _urls_of(self, model: str) -> Mapping[int, str]:
        return {version: url for (name, version), url in self._urls.items() if name == model}

    def _wait_for_the_proxy(self) -> None:
        deadline = time.monotonic() + _READY_S
        while (
            answer := loopback.get(f"http://{HOST}:{self.settings.admin_port}/ping", 1.0)
        ) is None or answer.status != 200:
            if time.monotonic() > deadline:
                raise Unavailable(f"the proxy does not answer: {traefik.last_words(self.processes)}")
            time.sleep(0.05)


def _command(process: psutil.Process) -> list[str]:
    """None of one that has ended: what made the last segments waits for its parent to look at it."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def _kilobytes(paths: Iterable[Path]) -> float:
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total / 1e3
