"""Hot swaps under load: the directory's version changes, SIGHUP has it loaded, and no request may be lost."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.serving.figures import Swaps
from benchmarks.serving.generator import Generator, finish
from benchmarks.serving.model import Material
from benchmarks.serving.rounds import OPEN_CONNECTIONS
from benchmarks.serving.running import Bench, Running, running
from benchmarks.serving.servers import Server
from headrace.errors import Unavailable

_APART_S = 0.1
_DEADLINE_S = 10.0
_POLL_S = 0.002


def measure(server: Server, bench: Bench, generator: Generator, rate: float, count: int) -> Swaps:
    """Swap `count` times, a tenth of a second apart, while requests of one row come at `rate` a second.

    Raises:
        Unavailable: the service did not swap.
    """
    print(f"  {count} swaps at {rate:.0f} requests/s", file=sys.stderr)
    seconds = count * _APART_S + 1.0
    try:
        with running(server, bench) as up:
            load = generator.start(up.port, bench.requests_of(server.name, 1), OPEN_CONNECTIONS, seconds, rate)
            began = time.monotonic()
            for number in range(count):
                time.sleep(max(0.0, began + number * _APART_S - time.monotonic()))
                _swap(up, bench.material, number)
            took_s = time.monotonic() - began
            return Swaps(count, took_s, rate, finish(load))
    finally:
        set_version(bench.material.directory / "headrace", 1)


def _swap(up: Running, material: Material, number: int) -> None:
    """One swap, to a version that was not in service before."""
    set_version(material.directory / "headrace", number + 2)
    # The first process of the server: with several workers it tells them all.
    os.kill(up.process.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + _DEADLINE_S
    while up.process.logged('"swapped"') <= number:
        if time.monotonic() > deadline:
            raise Unavailable(f"swap {number + 1} did not happen: {up.process.last_words()}")
        time.sleep(_POLL_S)


def set_version(directory: Path, version: int) -> None:
    """Make the directory that of another version, in one step."""
    manifest = json.loads((directory / "manifest.json").read_text())
    draft = directory.with_name("manifest.draft")
    draft.write_text(json.dumps(manifest | {"version": version}))
    draft.replace(directory / "manifest.json")
