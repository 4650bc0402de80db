"""What a rollout looks at: counters of both versions, rows that both predicted, and requests of its own."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.documents import read_contract
from headrace.domain.contract import Contract
from headrace.domain.evidence import Counts, Expected
from headrace.domain.lineage import release_name
from headrace.domain.rollout import RolloutState, Seen, deadline
from headrace.domain.score_shift import expected_shifts
from headrace.domain.sequences import Tally
from headrace.domain.split import Split
from headrace.errors import HeadraceError
from headrace.ports import Platform, Recent, Route

_TOLERANCE = 0.1
_MOST_PAIRS = 200_000
_MOST_BATCHES = 20
_STRIDE = 97

Pair = tuple[Counts | None, Counts | None]


@dataclass(frozen=True)
class Clock:
    """Time, given so that tests need not wait: seconds that only grow, how to wait, and seconds since 1970."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    wall: Callable[[], float] = time.time


def golden_rows(directory: Path) -> list[Mapping[str, Any]]:
    """Rows of the holdout that come with a version."""
    rows: list[Mapping[str, Any]] = json.loads((directory / "golden.json").read_text())["rows"]
    return rows


def counts(platform: Platform, model: str, new: int, stable: int) -> Pair:
    """Counters of the new version and of the stable one; None for what can't be had."""
    try:
        found = platform.metrics.counts(model)
    except HeadraceError:
        return None, None
    return found.get(new), found.get(stable)


def expected(platform: Platform, model: str, new: int, stable: int, directory: Path) -> Expected:
    """How both versions answer the same rows of the holdout, when each is asked itself."""
    contract, rows = read_contract(directory / "contract.json"), golden_rows(directory)
    budget_s = contract.budgets.latency_ms_p99 / 1000
    urls = {endpoint.version: endpoint.url for endpoint in platform.deployer.running(model)}
    scores = [platform.prober.scores(urls[one], model, rows) if one in urls else None for one in (new, stable)]
    ours, theirs = scores
    if not ours or not theirs or not all(math.isfinite(score) for score in (*ours, *theirs)):
        return Expected(budget_s)
    tolerance = _TOLERANCE * ((max(ours) - min(ours)) or 1.0 if contract.task == "regression" else 1.0)
    edges = (counts(platform, model, new, stable)[0] or Counts(0, 0)).scores
    shifts = expected_shifts(ours, theirs, edges, tolerance)
    span = (max(theirs) - min(theirs)) or None if contract.task == "regression" else None
    if _features(platform, model, stable) != contract.features:
        return Expected(budget_s, tolerance, shifts, span=span)
    apart = sum(abs(a - b) > tolerance for a, b in zip(ours, theirs, strict=True))
    return Expected(budget_s, tolerance, shifts, apart / len(rows), span)


def _features(platform: Platform, model: str, version: int) -> Any:
    """The features of a version in service, None when they can't be had."""
    try:
        directory = platform.model_directory(platform.registry.version(model, version))
        contract: Contract = read_contract(directory / "contract.json")
        return contract.features
    except HeadraceError:
        return None


@dataclass
class Watch:
    """One driver's eyes on one rollout."""

    platform: Platform
    model: str
    probes: Sequence[Mapping[str, Any]]
    clock: Clock
    _began: dict[tuple[int, float, str, str | None], tuple[float, float]] = field(default_factory=dict)
    _scores: dict[str, bool] = field(default_factory=dict)
    _contract: Contract | None = None
    _losses: tuple[Tally, Tally] | None = None
    _window: int = -1
    _sent: int = 0

    def look(self, route: Route, state: RolloutState) -> Seen:
        """What there is to see now. What can't be had is None, and never an error of the driver's."""
        elapsed_s = self._elapsed(state)
        if state.window != self._window:
            self._window, self._sent = state.window, 0
            self._scores.clear()
        new, stable = counts(self.platform, self.model, state.version, route.split.stable)
        ready = self._ready(state.version)
        try:
            recent = self.platform.metrics.recent(self.model)
        except HeadraceError:
            # Without them it would not be judged by them: then it is not judged.
            return Seen(None, None, ready, elapsed_s)
        ours, theirs = (recent.get(one, Recent({})) for one in (state.version, route.split.stable))
        pairs = self._pairs(ours, theirs, state) if route.split.shadow is not None else None
        return Seen(new, stable, ready, elapsed_s, pairs, self._outcomes(route.split, state), ours.repeated)

    def _outcomes(self, split: Split, state: RolloutState) -> tuple[Tally, Tally] | None:
        """Since the rollout began, since labels of one step come in the next. What they told once stays told."""
        number, span, versions = state.version, state.expected.span, (state.version, split.stable)
        try:
            if self._contract is None:
                # As it was checked when the version was started; the registry, which may be down, is not asked.
                directory = self.platform.home / "versions" / release_name(self.model, number)
                self._contract = read_contract(directory / "contract.json")
            if self._contract.task == "regression" and span is None:
                return None
            found = self.platform.outcomes.losses(self.model, self._contract, versions, state.began_at, span)
        except HeadraceError:
            return self._losses
        if found:
            self._losses = (found.get(number, Tally(0, 0)), found.get(split.stable, Tally(0, 0)))
        return self._losses

    def _ready(self, version: int) -> bool | None:
        try:
            running = {one.version: one.ready for one in self.platform.deployer.running(self.model)}
        except HeadraceError:
            return None
        return running.get(version, False)

    def probe(self, state: RolloutState, stable: int, seen: Seen, unclear: bool = False) -> bool:
        """Send rows of the holdout to both versions where there were too few requests; whether any were sent.

        Args:
            state: of the rollout.
            stable: the stable version.
            seen: at this look.
            unclear: whether more was seen than is allowed, and may be chance: then probes go on.
        """
        lacking = self._lacking(state, seen, unclear)
        url = self.platform.router.url(self.model)
        began = self.clock.now()
        for _ in range(lacking):
            if self.clock.now() - began >= state.policy.interval_s:
                break  # a version that lets everybody wait has to be looked at
            # From all over the holdout, however few are sent.
            row = self.probes[self._sent * _STRIDE % len(self.probes)]
            for version in (state.version, stable):
                self.platform.prober.send(url, self.model, [row], version)
            self._sent += 1
        return lacking > 0

    def _lacking(self, state: RolloutState, seen: Seen, unclear: bool) -> int:
        # Clients are given one interval: what they send is better evidence.
        if not state.policy.probes or state.phase != "running" or seen.elapsed_s < state.policy.interval_s:
            return 0
        if seen.new is None or seen.stable is None or state.new is None or state.stable is None:
            return 0
        came = [now.since(before) for now, before in ((seen.new, state.new), (seen.stable, state.stable))]
        answers = min(0 if one is None else one.answers for one in came)
        wanted, most = state.current.min_requests, 2 * state.current.min_requests
        if unclear and answers - self._sent < wanted <= answers:
            wanted, most = answers + wanted, _MOST_BATCHES * wanted
        # What is sent and never counted must not be sent for ever.
        return max(0, min(wanted - answers, most - self._sent))

    def _elapsed(self, state: RolloutState) -> float:
        """Since the step began: by the wall clock up to when this driver first saw it, and steadily from there."""
        key = (state.step, state.step_at, state.phase, state.paused_by)
        if key not in self._began:
            before = min(max(self.clock.wall() - state.step_at, 0.0), deadline(state))
            self._began[key] = (before, self.clock.now())
        before, since = self._began[key]
        return before + self.clock.now() - since

    def _pairs(self, ours: Recent, theirs: Recent, state: RolloutState) -> Tally:
        """Rows that both predicted lately, each counted once."""
        for digest, score in ours.scores.items():
            if digest in theirs.scores and len(self._scores) < _MOST_PAIRS:
                self._scores.setdefault(digest, abs(score - theirs.scores[digest]) > state.expected.tolerance)
        return Tally(sum(self._scores.values()), len(self._scores))
