"""What processes hold over time, and whether it grows."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MB = 1e6
UNITS: Mapping[str, str] = {"rss": "MB", "pss": "MB", "descriptors": "", "threads": ""}
ALLOWED: Mapping[str, float] = {"rss": 5.0, "pss": 5.0, "descriptors": 3.0, "threads": 1.0}
"""Growth over the whole time after the warm-up that still counts as none."""
_MOST_POINTS = 400


@dataclass(frozen=True)
class Sizes:
    """What a process holds: resident and proportional memory in 10^6 bytes, open descriptors, threads."""

    rss: float
    pss: float
    descriptors: int
    threads: int


def sizes(pid: int) -> Sizes | None:
    """None when the process is gone."""
    with contextlib.suppress(OSError, ValueError):
        folder = Path(f"/proc/{pid}")
        memory = dict(_fields((folder / "smaps_rollup").read_text()))
        threads = next(value for name, value in _fields((folder / "status").read_text()) if name == "Threads")
        descriptors = len(list((folder / "fd").iterdir()))
        return Sizes(memory["Rss"] * 1024 / MB, memory["Pss"] * 1024 / MB, descriptors, threads)
    return None


def _fields(text: str) -> Iterator[tuple[str, int]]:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdecimal():
            yield name, int(number[0])


@dataclass
class Series:
    """A number over time."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, moment: float, value: float) -> None:
        """One more."""
        self.times.append(moment)
        self.values.append(value)


@dataclass(frozen=True)
class Trend:
    """A series after its warm-up.

    Attributes:
        first, last, highest: of the values; the first and last are medians of a tenth of them.
        per_hour: slope, by Theil and Sen: the median of the slopes between all pairs, which outliers don't move.
        growth: the slope times the time.
        seconds: that time.
    """

    first: float
    last: float
    highest: float
    per_hour: float
    growth: float
    seconds: float


def trend(series: Series, warm_up_s: float) -> Trend | None:
    """None when there are fewer than ten values after the warm-up."""
    if not series.times:
        return None
    times, values = np.array(series.times), np.array(series.values)
    warm = times >= times[0] + warm_up_s
    times, values = times[warm], values[warm]
    if len(times) < 10:
        return None
    slope = _theil_sen(times, values)
    tenth = max(len(values) // 10, 1)
    seconds = float(times[-1] - times[0])
    return Trend(
        first=float(np.median(values[:tenth])),
        last=float(np.median(values[-tenth:])),
        highest=float(values.max()),
        per_hour=slope * 3600,
        growth=slope * seconds,
        seconds=seconds,
    )


def _theil_sen(times: "np.ndarray", values: "np.ndarray") -> float:
    every = -(-len(times) // _MOST_POINTS)
    times, values = times[::every], values[::every]
    first, second = np.triu_indices(len(times), k=1)
    return float(np.median((values[second] - values[first]) / (times[second] - times[first])))


def longest(series: Sequence[Series]) -> Series:
    """Of the processes that did the same work one after the other, the one that lived longest."""
    return max(series, key=lambda one: one.times[-1] - one.times[0])
