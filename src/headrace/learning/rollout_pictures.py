"""The pictures on a rollout's page, as numbers that its template draws: no library, no file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from headrace.domain.findings import SCORES, Finding
from headrace.domain.rollout import Look, RolloutState

WIDTH, HEIGHT = 900.0, 200.0
CHART_WIDTH, CHART_HEIGHT = 420.0, 130.0
_MOST_DOTS = 300
_MOST_WHISKERS = 60
# Room to the right of the last look, so that what came of it can be seen.
_AFTERWARDS = 1.06
_LEAST_GAP = 16.0

T = TypeVar("T")


@dataclass(frozen=True)
class Dot:
    """A look in the timeline; `kind` is the action's, without spaces."""

    x: float
    y: float
    kind: str
    title: str


@dataclass(frozen=True)
class Band:
    """A step in the timeline, from left to right."""

    x: float
    width: float
    step: str
    shadow: bool


@dataclass(frozen=True)
class Timeline:
    """The version's share of the traffic over time.

    Attributes:
        line: points of an SVG of `width` by `height`.
        levels: share in percent to its place.
        last_s: when the last look was, from the beginning.
    """

    width: float
    height: float
    line: str
    dots: tuple[Dot, ...]
    bands: tuple[Band, ...]
    levels: dict[int, float]
    last_x: float
    last_s: float


@dataclass(frozen=True)
class Whisker:
    """A difference with its bounds, in percent of the scale's width, cut off at its ends."""

    low: float
    value: float
    high: float
    outcome: str
    title: str
    x: float = 0.0


@dataclass(frozen=True)
class Chart:
    """One metric over time.

    Attributes:
        limit: place of what is allowed, in percent of the scale.
        reach: difference at either end of the scale, in points.
    """

    metric: str
    whiskers: tuple[Whisker, ...]
    limit: float
    reach: float


def timeline(state: RolloutState, looks: Sequence[Look]) -> Timeline:
    """Shares are drawn by their square root: a step of 1 % would not be seen beside one of 50 %."""
    last_s = _duration(state, looks)
    points = [(0.0, _level(looks[0].new_pct))] if looks else []
    for look in looks:
        x, y = _x(state, look, last_s, WIDTH), _level(look.new_pct)
        if points and points[-1][1] != y:
            points.append((points[-1][0], y))  # it was changed at the look before, right after it
        points.append((x, y))
    last_x = round(WIDTH / _AFTERWARDS, 1)
    final = 100 if state.phase == "finished" else 0 if not state.active else None
    if points and final is not None:
        points += [(last_x, points[-1][1]), (last_x, _level(final)), (WIDTH, _level(final))]
    dots = [
        Dot(_x(state, look, last_s, WIDTH), _level(look.new_pct), look.action.kind.replace(" ", "-"), _told(look))
        for look in _thinned(looks, _MOST_DOTS)
    ]
    line = " ".join(f"{x},{y}" for x, y in points)
    bands = tuple(_bands(state, looks, last_s))
    return Timeline(WIDTH, HEIGHT, line, tuple(dots), bands, _levels(state), last_x, last_s)


def charts(state: RolloutState, looks: Sequence[Look]) -> list[Chart]:
    """One for each metric that was ever judged, the one that matters most at the end first."""
    seen: dict[str, list[tuple[Look, Finding]]] = {}
    for look in looks:
        for finding in look.action.findings:
            seen.setdefault(name(finding), []).append((look, finding))
    last_s = _duration(state, looks)
    made = []
    for metric, found in seen.items():
        reach = _reach([finding for _, finding in found])
        whiskers = [
            whisker(finding, reach, _told(look), _x(state, look, last_s, CHART_WIDTH))
            for look, finding in _every(found, _MOST_WHISKERS)
        ]
        limit = _place(found[-1][1].limit, reach)
        made.append(Chart(metric, tuple(one for one in whiskers if one), limit, 100 * reach))
    return sorted(made, key=lambda one: bool(one.whiskers) and one.whiskers[-1].outcome == "pass")


def name(finding: Finding) -> str:
    """The metric, whichever score it was looked at."""
    return "scores" if finding.metric.startswith(SCORES) else finding.metric


def whisker(finding: Finding, reach: float | None = None, title: str = "", x: float = 0.0) -> Whisker | None:
    """A finding for a scale that reaches from -`reach` to `reach`; None where nothing was seen."""
    if finding.difference is None:
        return None
    reach = _reach([finding]) if reach is None else reach
    low, value, high = (_place(end, reach) for end in (finding.low, finding.difference, finding.high))
    return Whisker(low, value, high, finding.outcome, title or finding.sentence, x)


def limit(finding: Finding) -> float:
    """Where on its whisker's scale a finding is no longer allowed."""
    return _place(finding.limit, _reach([finding]))


def _reach(found: Sequence[Finding]) -> float:
    """Bounds are wide at first: what is allowed, and what was seen, has to be made out."""
    differences = [abs(one.difference) for one in found if one.difference is not None]
    return max([1.25 * one for one in differences] + [4 * one.limit for one in found] + [0.001])


def _place(end: float, reach: float) -> float:
    return round(50 + 48 * max(-1.0, min(1.0, end / reach)), 1)


def _duration(state: RolloutState, looks: Sequence[Look]) -> float:
    return max([look.at - state.began_at for look in looks] + [1.0])


def _x(state: RolloutState, look: Look, last_s: float, width: float) -> float:
    return round(min(max(look.at - state.began_at, 0.0), last_s) / last_s * width / _AFTERWARDS, 1)


def _level(pct: float) -> float:
    return round(HEIGHT * (1 - math.sqrt(pct / 100)), 1)


def _levels(state: RolloutState) -> dict[int, float]:
    """Shares that are written beside the timeline; of those that would cover one another, the higher."""
    levels: dict[int, float] = {}
    for pct in sorted({0, 100, *(step.weight_pct for step in state.policy.steps)}, reverse=True):
        if all(_level(pct) - other >= _LEAST_GAP for other in levels.values()):
            levels[pct] = _level(pct)
    return levels


def _bands(state: RolloutState, looks: Sequence[Look], last_s: float) -> list[Band]:
    found: list[Band] = []
    begun = 0.0
    for at, look in enumerate(looks):
        x = _x(state, look, last_s, WIDTH)
        # A step is over at the look that ends it.
        if look.action.kind in ("advance", "take back") or at == len(looks) - 1:
            found.append(Band(begun, round(x - begun, 1), look.step, look.step == "shadow"))
            begun = x
    return found


def _thinned(looks: Sequence[Look], most: int) -> list[Look]:
    """Every look that did something, and as many others as there is room for."""
    held = [look for look in looks if look.action.kind == "hold"]
    kept = {id(look) for look in _every(held, most)}
    return [look for look in looks if look.action.kind != "hold" or id(look) in kept]


def _every(found: Sequence[T], most: int) -> list[T]:
    """At most about `most` of them, evenly, and the last one in any case."""
    stride = max(1, math.ceil(len(found) / most))
    return list(found[(len(found) - 1) % stride :: stride])


def _told(look: Look) -> str:
    return f"{look.step}: {look.action.kind}, {look.action.reason}"
