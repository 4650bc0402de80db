"""Where the service's processor time goes, by perf where there is one: the reason behind a goal that was missed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.serving.environments import BENCH
from benchmarks.serving.generator import Generator, finish
from benchmarks.serving.rounds import PEAK_CONNECTIONS
from benchmarks.serving.running import Bench, running
from benchmarks.serving.servers import Server

_SECONDS = 2.0
_HZ = "1999"
_LINE = re.compile(r"\s*(\d+\.\d+)%\s+(\S+)\s*$")
_LEAST_SHARE = 0.5


def measure(server: Server, bench: Bench, generator: Generator) -> dict[str, float]:
    """Percent of the processor time by library, one row a request, closed loop; empty where perf is of no use."""
    perf = shutil.which("perf")
    if perf is None:
        return {}
    print("  profile", file=sys.stderr)
    data = BENCH / "perf.data"
    with running(server, bench) as up:
        load = generator.start(up.port, bench.requests_of(server.name, 1), PEAK_CONNECTIONS, _SECONDS + 1.0, rate=0.0)
        pid = str(up.process.process.pid)
        record = [perf, "record", "--quiet", "--freq", _HZ, "--pid", pid, "--output", str(data), "--"]
        ended = subprocess.run([*record, "sleep", f"{_SECONDS:g}"], capture_output=True, check=False)
        finish(load)
    if ended.returncode:
        return {}
    return parse(_report(perf, data))


def _report(perf: str, data: Path) -> str:
    command = [perf, "report", "--stdio", "--no-children", "--sort", "dso", "--input", str(data)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def parse(report: str) -> dict[str, float]:
    """Library to percent, largest first, from a report sorted by library; those below half a percent are left out."""
    found: dict[str, float] = {}
    for line in report.splitlines():
        if (match := _LINE.fullmatch(line)) and float(match[1]) >= _LEAST_SHARE:
            name = match[2].partition(".cpython-")[0].partition(".so")[0].strip("[]")
            found[name] = found.get(name, 0.0) + float(match[1])
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
