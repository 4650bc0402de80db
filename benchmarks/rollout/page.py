"""The page docs/benchmarks/rollout.md. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

EXPOSURE = 0.02
TO_ZERO_S = 10.0
ROLLBACK_S = 1.0


@dataclass(frozen=True)
class Episode:
    """One rollout under load.

    Attributes:
        rate: requests a second that there were.
        requests: from the rollout's first moment to its last.
        failed: without a prediction, in all.
        exposed: of `requests`, those that the new version answered, or failed to.
        to_zero_s: from its first answer to a client to its last; None when it answered nobody, or was kept.
        after: requests after the rollout's end that it answered all the same.
    """

    what: str
    policy: str
    finished: bool
    reason: str
    rate: float
    requests: int
    failed: int
    exposed: int
    to_zero_s: float | None
    lasted_s: float
    after: int

    @property
    def exposure(self) -> float:
        return self.exposed / self.requests


@dataclass(frozen=True)
class Rollback:
    """Seconds from the command's start to the last answer of the version that it takes away, and to its own end."""

    switched_s: Sequence[float]
    whole_s: Sequence[float]
    failed: int


@dataclass(frozen=True)
class Goal:
    """What was wanted, and what it came to."""

    what: str
    wanted: str
    measured: str
    met: bool

    @property
    def word(self) -> str:
        """For the table."""
        return "met" if self.met else "**missed**"


def page(
    episodes: Sequence[Episode], rollback: Rollback, power: str, interval_s: float, date: str, machine: str
) -> tuple[str, bool]:
    """The page, and whether a goal was missed."""
    bad = [one for one in episodes if one.what != "is as good"]
    good = [one for one in episodes if one.what == "is as good"]
    zero = [one.to_zero_s for one in bad if one.to_zero_s is not None]
    switched, whole = statistics.median(rollback.switched_s), statistics.median(rollback.whole_s)
    exposure, zero_s = max(one.exposure for one in bad), max(zero, default=0.0)
    lost, back = sum(one.failed for one in good), sum(not one.finished for one in bad)
    kept = sum(one.finished for one in good)
    goals = [
        Goal("a bad version is taken back", "all", f"{back} of {len(bad)}", back == len(bad)),
        Goal(
            "requests that it answered, of all during its rollout",
            f"≤ {EXPOSURE:.0%}",
            f"{exposure:.2%} at most",
            exposure <= EXPOSURE,
        ),
        Goal(
            f"from its first answer to a client to its last, a look every {interval_s:g} s",
            f"≤ {TO_ZERO_S:g} s",
            f"{zero_s:.1f} s at most",
            zero_s <= TO_ZERO_S,
        ),
        Goal("a good version is promoted", "all", f"{kept} of {len(good)}", kept == len(good)),
        Goal("requests that failed in its rollout", "0", str(lost), not lost),
        Goal(
            "`headrace rollback`: until nobody gets the other version",
            f"≤ {ROLLBACK_S:g} s",
            f"{switched:.2f} s",
            switched <= ROLLBACK_S,
        ),
        Goal("requests that failed in rollbacks", "0", str(rollback.failed), not rollback.failed),
    ]
    rate = statistics.median(one.rate for one in episodes)
    lines = [
        "# What rollouts cost",
        "",
        f"`make bench-rollout`, {date}, {machine}. The real service behind the real proxy, MLflow, and clients that "
        f"send {rate:.0f} requests a second. The bad versions are bad only for rows that their holdout has not, so "
        "that neither the gate nor the start finds them out.",
        "",
        "| goal | wanted | measured |  |",
        "| --- | --- | --- | --- |",
        *(f"| {one.what} | {one.wanted} | {one.measured} | {one.word} |" for one in goals),
        "",
        "## Episodes",
        "",
        "| a version that | policy | outcome | requests | it answered | exposure | failed | from its first to its last "
        "answer, s | whole rollout, s |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *map(_row, episodes),
        "",
        "Why each was taken back:",
        "",
        *(f"- {one.what}, {one.policy}: {one.reason}" for one in bad),
        "",
        "## Rollback",
        "",
        f"`headrace rollback`, {len(rollback.switched_s)} times under the same load: median {switched:.2f} s from the "
        f"command's start to the last answer of the version that it takes away ({min(rollback.switched_s):.2f} to "
        f"{max(rollback.switched_s):.2f} s); the command itself ends after {whole:.2f} s.",
        "",
        "## Power",
        "",
        power,
    ]
    return "\n".join(lines).rstrip() + "\n", not all(one.met for one in goals)


def _row(one: Episode) -> str:
    cells = [
        one.what,
        one.policy,
        "promoted" if one.finished else "taken back",
        f"{one.requests:,}",
        f"{one.exposed:,}",
        "" if one.finished else f"{one.exposure:.2%}",
        str(one.failed),
        "" if one.to_zero_s is None else f"{one.to_zero_s:.1f}",
        f"{one.lasted_s:.1f}",
    ]
    return f"| {' | '.join(cells)} |"
