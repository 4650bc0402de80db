"""Rollouts without services or clients: answers are drawn, and `headrace.domain.rollout` decides on their counts."""

from dataclasses import dataclass, field

import numpy as np

from headrace.domain.evidence import Counts, Expected
from headrace.domain.rollout import RolloutState, Seen, advanced, begin, ended, next_action
from headrace.domain.rollout_policy import RolloutPolicy
from headrace.domain.sequences import Tally

STABLE, NEW = 1, 2
BUDGET_S = 0.05
TWENTIETHS = tuple(round(0.05 * step, 2) for step in range(1, 21))
"""Bounds of the service's score histogram for probabilities."""
QUARTERS = (0.25, 0.5, 0.75, 1.0)
"""A coarser one, which is quicker."""


@dataclass(frozen=True)
class Rates:
    """How a version answers, as chances; every request has one row.

    Attributes:
        shift: share of the rows whose score is 0.5 higher than it should be; else scores are uniform. Up to 0.5.
        disagreement: chance that a row is answered notably unlike the stable version would, besides the shift.
    """

    errors: float = 0.0
    slow: float = 0.0
    bad_outputs: float = 0.0
    fallbacks: float = 0.0
    shift: float = 0.0
    disagreement: float = 0.0


@dataclass
class Version:
    """Counts answers as the services do."""

    rates: Rates
    random: np.random.Generator
    edges: tuple[float, ...] = TWENTIETHS
    answers: int = 0
    errors: int = 0
    slow: int = 0
    bad_outputs: int = 0
    fallbacks: int = 0
    disagreeing: int = 0
    _scores: "np.ndarray[tuple[int], np.dtype[np.int64]]" = field(init=False)

    def __post_init__(self) -> None:
        self._scores = np.zeros(len(self.edges), dtype=np.int64)
        widths = np.diff((0.0, *self.edges))
        lower = np.array(self.edges) <= 0.5
        self._chances = widths * np.where(lower, 1 - 2 * self.rates.shift, 1 + 2 * self.rates.shift)

    def answer(self, count: int) -> None:
        """Answer so many requests."""
        rates, draw = self.rates, self.random.binomial
        errors = draw(count, rates.errors)
        rows = count - errors
        bad = draw(rows, rates.bad_outputs)
        self.answers += count
        self.errors += errors
        self.slow += draw(count, rates.slow)
        self.bad_outputs += bad
        self.fallbacks += draw(rows, rates.fallbacks)
        self.disagreeing += draw(rows, min(rates.disagreement + rates.shift, 1.0))
        if self.edges:
            self._scores += np.cumsum(self.random.multinomial(rows - bad, self._chances))

    @property
    def counts(self) -> Counts:
        """What it would tell."""
        return Counts(
            answers=self.answers,
            errors=self.errors,
            durations={BUDGET_S: self.answers - self.slow},
            rows=self.answers - self.errors,
            bad_outputs=self.bad_outputs,
            fallbacks=self.fallbacks,
            scores=dict(zip(self.edges, self._scores.tolist(), strict=True)),
            started_at=1.0,
        )


@dataclass(frozen=True)
class End:
    """How a rollout ended.

    Attributes:
        on_evidence: whether it was taken back since a metric had failed; else it was too late for it, or it finished.
        step: position of its last step.
        shadowed: answers that the new version gave to nobody.
        exposed: answers that it gave to clients.
        looks: how often it was decided on.
    """

    state: RolloutState
    on_evidence: bool
    step: int
    shadowed: int
    exposed: int
    looks: int

    @property
    def finished(self) -> bool:
        """Whether the new version has all traffic."""
        return self.state.phase == "finished"


def expected(stable: Rates, edges: tuple[float, ...]) -> Expected:
    """What a holdout leads one to expect of two versions that are alike."""
    return Expected(BUDGET_S, scores=dict.fromkeys(edges, 0.0), disagreement=stable.disagreement)


def roll_out(
    policy: RolloutPolicy,
    stable: Rates,
    new: Rates,
    requests_per_s: float,
    random: np.random.Generator,
    edges: tuple[float, ...] = TWENTIETHS,
) -> End:
    """Roll a version out under steady traffic, looking once every interval, to its end."""
    ours, theirs = Version(new, random, edges), Version(stable, random, edges)
    now, looks, shadowed, exposed, owed = 0.0, 0, 0, 0, 0.0
    state = begin(NEW, policy, expected(stable, edges), now, (ours.counts, theirs.counts))
    pairs_before = (0, 0)
    while state.active:
        now, looks, step = now + policy.interval_s, looks + 1, state.current
        came = round(requests_per_s * policy.interval_s)
        owed += came * (step.weight_pct + step.shadow_pct) / 100
        mine = int(owed)
        owed -= mine
        ours.answer(mine)
        theirs.answer(came - mine if step.weight_pct else came)
        shadowed, exposed = shadowed + mine * (not step.weight_pct), exposed + mine * bool(step.weight_pct)
        both = Tally(ours.disagreeing - pairs_before[0], ours.answers - pairs_before[1]) if step.shadow_pct else None
        seen = Seen(ours.counts, theirs.counts, True, now - state.step_at, both)
        action = next_action(state, seen)
        if action.kind == "advance":
            state = advanced(state, now, (seen.new, seen.stable), action.reason)
            pairs_before = (ours.disagreeing, ours.answers)
        elif action.kind == "take back":
            state = ended(state, "taken back", action.reason)
    failed = any(one.outcome == "fail" for one in action.findings)
    return End(state, failed and state.phase != "finished", state.step, shadowed, exposed, looks)
