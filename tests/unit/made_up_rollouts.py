"""Rollouts as a driver would have had them: made-up counters, real decisions."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from headrace.domain import rollout as rollouts
from headrace.domain.evidence import Counts, Expected
from headrace.domain.rollout import Look, RolloutState, Seen
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.sequences import Tally
from headrace.domain.split import Split, describe

POLICY = RolloutPolicy(
    steps=(
        RolloutStep(shadow_pct=100, min_requests=200, hold_s=20, timeout_s=120),
        RolloutStep(weight_pct=1, min_requests=50, hold_s=20, timeout_s=300),
        RolloutStep(weight_pct=10, min_requests=200, hold_s=20, timeout_s=120),
        RolloutStep(weight_pct=50, min_requests=200, hold_s=20, timeout_s=120),
    ),
    interval_s=5.0,
)
EXPECTED = Expected(latency_budget_s=0.05, tolerance=0.1, scores={0.25: 0.0, 0.35: 0.0, 0.5: 0.0}, disagreement=0.06)
BEGAN = 1_375_272_000.0
_RATE = 40.0
_RELATED = {"errors": 0.0, "slow": 0.004, "bad": 0.0, "fallbacks": 0.02, "low": 0.4, "middle": 0.8, "apart": 0.07}
_STABLE = {**_RELATED, "low": 0.38, "middle": 0.79}

Shares = dict[str, float]


@dataclass(frozen=True)
class Made:
    """A rollout from its beginning to where it stands."""

    state: RolloutState
    looks: tuple[Look, ...]
    split: Split


def counts(answers: int, shares: Shares) -> Counts:
    """Counters after so many answers of one row each."""

    def of(name: str) -> int:
        return round(answers * shares[name])

    return Counts(
        answers,
        of("errors"),
        {0.025: answers - 2 * of("slow"), 0.05: answers - of("slow"), 0.1: answers},
        answers,
        of("bad"),
        of("fallbacks"),
        {0.25: of("low"), 0.35: of("low"), 0.5: of("middle"), 0.6: of("middle"), 1.0: answers},
        1.0,
    )


def made(
    shares: Callable[[RolloutState], Shares] = lambda state: {}, policy: RolloutPolicy = POLICY, looks: int = 200
) -> Made:
    """Drive a rollout of v4 beside v3 for at most so many looks.

    Args:
        shares: what the new version does otherwise than a good one, by where its rollout is.
        policy: its policy.
        looks: how often somebody looks.
    """
    split, now = Split(3), BEGAN
    began = (counts(0, _RELATED), counts(0, _STABLE))
    state = rollouts.begin(4, policy, EXPECTED, now, began)
    split = rollouts.split_of(state, split)
    seen: list[Look] = []
    totals = [0.0, 0.0]
    while state.active and len(seen) < looks:
        now += policy.interval_s
        look, state, split = _looked(state, split, now, totals, {**_RELATED, **shares(state)})
        seen.append(look)
    return Made(state, tuple(seen), split)


def _looked(
    state: RolloutState, split: Split, now: float, totals: list[float], shares: Shares
) -> tuple[Look, RolloutState, Split]:
    share = 1.0 if split.shadow else split.canary_pct / 100
    came = _RATE * state.policy.interval_s
    totals[0] += max(came * share, 2.0)
    totals[1] += came if split.shadow else came * (1 - share)
    # Counters go on from step to step; what a window sees begins at none, so that its shares are those asked for.
    new = _added(state.new, counts(round(totals[0]), shares))
    stable = _added(state.stable, counts(round(totals[1]), _STABLE))
    pairs = Tally(round(totals[0] * shares["apart"]), round(totals[0])) if split.shadow else None
    action = rollouts.next_action(state, Seen(new, stable, True, now - state.step_at, pairs))
    look = Look(now, state.current.describe(), describe(split), split.weights.get(4, 0), action)
    if action.kind == "advance":
        state = rollouts.advanced(state, now, (new, stable), action.reason)
        totals[:] = [0.0, 0.0]
    elif action.kind == "take back":
        state = rollouts.ended(state, "taken back", action.reason)
    return look, state, rollouts.split_of(state, split)


def _added(before: Counts | None, came: Counts) -> Counts:
    assert before is not None
    return replace(
        came,
        answers=before.answers + came.answers,
        errors=before.errors + came.errors,
        durations={bound: before.durations[bound] + count for bound, count in came.durations.items()},
        rows=before.rows + came.rows,
        bad_outputs=before.bad_outputs + came.bad_outputs,
        fallbacks=before.fallbacks + came.fallbacks,
        scores={bound: before.scores[bound] + count for bound, count in came.scores.items()},
    )


def erring_at(weight_pct: int, share: float = 0.3) -> Callable[[RolloutState], Shares]:
    """Good until it has that share of the traffic."""
    return lambda state: {"errors": share} if state.current.weight_pct >= weight_pct else {}
