"""What happens meanwhile: swaps, kills, new values in the store; and what everything holds, again and again."""

import contextlib
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil

from benchmarks.soak.clients import Traffic
from benchmarks.soak.growth import Series
from benchmarks.soak.ledger import Kill
from benchmarks.soak.material import DIRECTORIES, PAIR, PAIRED_VERSION, SINGLE
from benchmarks.soak.stage import WORKERS, Stage

SWAP_EVERY_S, WORKER_KILL_EVERY_S, RELEASE_KILL_EVERY_S, WRITE_EVERY_S, LOOK_EVERY_S = 4.0, 15.0, 20.0, 10.0, 2.0
_SAY_EVERY_S = 30.0


@dataclass
class Seen:
    """What happened, and what was held when.

    Attributes:
        held: what process, its id, and what of it, to the series.
        kept: what is on the disk, to its series.
        dropped: predictions that the services counted as dropped, of those that were not killed since.
    """

    swaps: Counter[str] = field(default_factory=Counter)
    unswapped: list[str] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    writes: int = 0
    dropped: float = 0.0
    held: dict[tuple[str, int, str], Series] = field(default_factory=dict)
    kept: dict[str, Series] = field(default_factory=dict)


class Events:
    """Does one thing after the other, each in its own time."""

    def __init__(self, stage: Stage, traffic: Traffic) -> None:
        self._stage, self._traffic = stage, traffic
        self.seen = Seen()
        self._directory = dict.fromkeys((PAIR, SINGLE), "a")
        self._swapped_last = SINGLE

    def run(self, seconds: float) -> None:
        """For so long."""
        began = time.monotonic()
        todo = {
            self._look: (LOOK_EVERY_S, 0.0),
            self._swap: (SWAP_EVERY_S, 2.0),
            self._write: (WRITE_EVERY_S, 5.0),
            self._kill_worker: (WORKER_KILL_EVERY_S, 7.0),
            self._kill_release: (RELEASE_KILL_EVERY_S, 12.0),
            self._say: (_SAY_EVERY_S, _SAY_EVERY_S),
        }
        due = {do: began + first for do, (_, first) in todo.items()}
        while time.monotonic() < began + seconds:
            do = min(due, key=lambda one: due[one])
            time.sleep(max(0.0, min(due[do], began + seconds) - time.monotonic()))
            if time.monotonic() >= began + seconds:
                break
            do()
            due[do] = max(due[do] + todo[do][0], time.monotonic())
        self._look()
        self.seen.dropped = self._stage.dropped()

    def _swap(self) -> None:
        model = self._swapped_last = PAIR if self._swapped_last == SINGLE else SINGLE
        name = next(other for other in DIRECTORIES if other != self._directory[model])
        self._directory[model] = name
        self.seen.swaps[model] += 1
        if not self._stage.swap(model, name):
            self.seen.unswapped.append(f"{model} to {name}: {self._stage.reloads(model)}")

    def _write(self) -> None:
        self._stage.store.write()
        self.seen.writes += 1

    def _kill_worker(self) -> None:
        """The youngest, so that the other one grows old."""
        release = self._stage.release(PAIR, DIRECTORIES["a"])
        if release and len(release.workers) == WORKERS:
            self._kill(f"worker of {release.name}", release.workers[-1])

    def _kill_release(self) -> None:
        release = self._stage.release(PAIR, PAIRED_VERSION)
        if release:
            self._kill(release.name, release.first)

    def _kill(self, what: str, process: psutil.Process) -> None:
        moment = time.monotonic()
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
            self.seen.kills.append(Kill(what, PAIR, moment))

    def _look(self) -> None:
        moment = time.monotonic()
        for (name, pid), held in self._stage.hold().items():
            for what, value in vars(held).items():
                self.seen.held.setdefault((name, pid, what), Series()).add(moment, value)
        for name, value in self._stage.files().items():
            self.seen.kept.setdefault(name, Series()).add(moment, value)

    def _say(self) -> None:
        count, kills = self._traffic.ledger.request_count, len(self.seen.kills)
        lost = len(self._traffic.ledger.failures(self.seen.kills).lost)
        print(f"  {count:,} requests, {self.seen.swaps.total()} swaps, {kills} kills, {lost} lost", file=sys.stderr)
