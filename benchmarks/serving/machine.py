"""What the machine is, and what it was doing meanwhile."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

from headrace.errors import UsageError

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """Where the load generator runs, with the benchmark, and where the servers run."""

    generator: int
    server: int


def cores() -> Cores:
    """The first and the last core that this process may use.

    Raises:
        UsageError: there is only one.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise UsageError("the server and the load generator need a core each, and there is one: give the machine two")
    return Cores(allowed[0], allowed[-1])


def stolen_s() -> float:
    """Seconds that the host of this virtual machine took from all its cores, since its start."""
    # cpu user nice system idle iowait irq softirq steal ...
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / _TICKS_PER_S


def busy_s(core: int) -> float:
    """Seconds that a core was not idle, since the machine's start."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, interrupts, soft, _steal = map(int, fields[:8])
            return (user + nice + system + interrupts + soft) / _TICKS_PER_S
    return 0.0


def description() -> str:
    """The machine in a phrase."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}"
    )
