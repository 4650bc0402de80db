"""Moving traffic to a new version step by step on evidence, and back at the first evidence against it.

`begin` makes the state, `next_action` decides at every look, and the other functions give the state after what was
decided. Nothing here knows a clock or a proxy: who drives a rollout writes the state and the split that goes with it
in one write (`Router.write`), so that whoever comes after a crash goes on from what was written.
"""

from dataclasses import dataclass, replace
from typing import Literal

from headrace.domain.evidence import Counts, Expected, judge
from headrace.domain.findings import Finding
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.sequences import Tally
from headrace.domain.split import Split, finished

_STRICT = {"extra": "forbid"}

Phase = Literal["running", "waiting", "finished", "taken back", "superseded"]
Kind = Literal["hold", "advance", "renew", "take back"]


@dataclass(frozen=True)
class RolloutState:
    """Where a rollout is: written together with the weights.

    Attributes:
        version: the one that is tried.
        step: position in the policy's steps.
        step_at: when the step began, seconds since 1970.
        window: how many windows of evidence were opened before this one, in all steps.
        new: counts of the version when the window began; None until they could be had.
        stable: counts of the stable version then.
        reason: why the last change was made.
        paused_by: who paused it, None when nobody did.
        approved_by: who approved of 100 %.
    """

    version: int
    policy: RolloutPolicy
    expected: Expected
    began_at: float
    step_at: float
    step: int = 0
    window: int = 0
    phase: Phase = "running"
    new: Counts | None = None
    stable: Counts | None = None
    reason: str = ""
    paused_by: str | None = None
    approved_by: str | None = None

    __pydantic_config__ = _STRICT

    @property
    def key(self) -> str:
        """The name of this rollout, unlike that of any other of the model."""
        return f"v{self.version}-{self.began_at:.3f}"

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.phase in ("running", "waiting")

    @property
    def current(self) -> RolloutStep:
        """The step that it is at; the last one once all are done."""
        return self.policy.steps[self.step]


@dataclass(frozen=True)
class Seen:
    """What there is to see at one look.

    Attributes:
        new: counters of the version that is tried; None when they could not be had.
        stable: counters of the stable version.
        ready: whether the new version takes requests; None when that could not be found out.
        pairs: rows of this window that both predicted, and on how many they disagree; None outside of a shadow.
        elapsed_s: since the step began.
        losses: of predictions since the rollout began whose outcome is known, the new version's and the stable one's;
            None where nobody can tell.
        repeated: share of the new version's latest rows that are not the first of their kind.
    """

    new: Counts | None
    stable: Counts | None
    ready: bool | None
    elapsed_s: float
    pairs: Tally | None = None
    losses: tuple[Tally, Tally] | None = None
    repeated: float = 0.0

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Action:
    """What to do next, and why.

    Attributes:
        kind: hold; advance to the next step; renew the window, since the evidence in it is void; take back.
        findings: one for each metric, where there was something to compare.
        requests: answers of the new version in the window, and of the stable one.
    """

    kind: Kind
    reason: str
    findings: tuple[Finding, ...] = ()
    requests: tuple[int, int] = (0, 0)

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Look:
    """What was seen and done at one look, for the record.

    Attributes:
        at: seconds since 1970.
        step: at which step, in words.
        traffic: the split, in words.
        new_pct: share of the traffic that the version had.
    """

    at: float
    step: str
    traffic: str
    new_pct: int
    action: Action

    __pydantic_config__ = _STRICT


def next_action(state: RolloutState, seen: Seen) -> Action:
    """Decide at one look. What is missing or void never advances: it holds, and takes back at the deadline."""
    if not state.active:
        raise ValueError(f"the rollout of v{state.version} is {state.phase}: there is nothing to decide")
    if seen.ready is False:
        return _not_ready(state, seen)
    if seen.new is None or seen.stable is None or seen.ready is None:
        return _unless_late(state, seen, "hold", _lacking(state, seen))
    if state.new is None or state.stable is None:
        return Action("renew", "the first counters are there: the evidence begins here")
    new, stable = seen.new.since(state.new), seen.stable.since(state.stable)
    if new is None and stable is not None:
        return Action("take back", f"v{state.version} was started anew: its process had ended")
    if new is None or stable is None:
        return _unless_late(state, seen, "renew", "the stable version was started anew, and the evidence is void")
    return _judged(state, seen, new, stable)


def _judged(state: RolloutState, seen: Seen, new: Counts, stable: Counts) -> Action:
    limits, error = state.policy.limits, window_error(state)
    findings = judge(new, stable, seen.pairs, limits, state.expected, error, seen.losses, seen.repeated)
    requests = (new.answers, stable.answers)
    failed = [one.sentence for one in findings if one.outcome == "fail"]
    if failed:
        return Action("take back", "; ".join(failed), findings, requests)
    if state.phase == "waiting":
        if state.approved_by:
            return Action("advance", f"approved by {state.approved_by}", findings, requests)
        return _unless_late(state, seen, "hold", "every step is passed: it waits for approval", findings, requests)
    said = f"{new.answers} answers beside {stable.answers}"
    unclear = [one for one in findings if one.outcome == "inconclusive"]
    held_by = [one.sentence for one in unclear]
    if min(requests) < state.current.min_requests:
        few = f"{said} so far, {state.current.min_requests} of each are needed"
        # What says that there is nothing yet would only say that again.
        held_by = [few, *(one.sentence for one in unclear if one.difference is not None)]
    if state.paused_by and not held_by:
        held_by = [f"paused by {state.paused_by}"]
    if held_by:
        return _unless_late(state, seen, "hold", "; ".join(held_by), findings, requests)
    said += f" in {seen.elapsed_s:.1f} s, nothing against it"
    if seen.elapsed_s < state.current.hold_s:
        said += f"; the step takes {state.current.hold_s:g} s at least"
        return Action("hold", said, findings, requests)
    return Action("advance", said, findings, requests)


def _not_ready(state: RolloutState, seen: Seen) -> Action:
    """Ended, or too busy to say that it is ready: where there are counters, they may say why."""
    reason = f"v{state.version} is no longer ready: it has ended, or is too busy to say so"
    began, now = (state.new, state.stable), (seen.new, seen.stable)
    came = [one.since(before) if one and before else None for one, before in zip(now, began, strict=True)]
    if came[0] is None or came[1] is None:
        return Action("take back", reason)
    judged = _judged(state, seen, came[0], came[1])
    against = [one.sentence for one in judged.findings if one.outcome != "pass" and one.new is not None]
    return replace(judged, kind="take back", reason="; ".join([reason, *against]))


def _unless_late(
    state: RolloutState,
    seen: Seen,
    kind: Kind,
    reason: str,
    findings: tuple[Finding, ...] = (),
    requests: tuple[int, int] = (0, 0),
) -> Action:
    deadline_s = deadline(state)
    if seen.elapsed_s >= deadline_s:
        return Action("take back", f"{reason} (after {deadline_s:g} s, the most it may last)", findings, requests)
    return Action(kind, reason, findings, requests)


def deadline(state: RolloutState) -> float:
    """How long the step may last, in seconds: longer where a person has to say something."""
    waits = state.phase == "waiting" or state.paused_by is not None
    return state.policy.approval_timeout_s if waits else state.current.timeout_s


def _lacking(state: RolloutState, seen: Seen) -> str:
    lacks = [
        *([f"no counters of v{state.version}"] if seen.new is None else []),
        *(["no counters of the stable version"] if seen.stable is None else []),
        *([f"nobody knows whether v{state.version} is ready"] if seen.ready is None else []),
    ]
    return " and ".join(lacks)


def window_error(state: RolloutState) -> float:
    """The part of the error budget for this window: 1/2, 1/6, 1/12, ... of it, which add up to all of it."""
    return state.policy.error_budget / ((state.window + 1) * (state.window + 2))


def begin(
    version: int, policy: RolloutPolicy, expected: Expected, now: float, counts: tuple[Counts | None, Counts | None]
) -> RolloutState:
    """A rollout at its first step; `counts` are the new version's and the stable one's."""
    return RolloutState(version, policy, expected, now, now, new=counts[0], stable=counts[1], reason="it begins")


def advanced(state: RolloutState, now: float, counts: tuple[Counts | None, Counts | None], reason: str) -> RolloutState:
    """After an `advance`: at the next step; waiting for approval; or finished."""
    if state.phase == "running" and state.step + 1 < len(state.policy.steps):
        return _opened(replace(state, step=state.step + 1, step_at=now), counts, reason)
    if state.policy.approval and not state.approved_by:
        return replace(state, step_at=now, phase="waiting", reason=reason)
    return ended(state, "finished", reason)


def renewed(state: RolloutState, counts: tuple[Counts | None, Counts | None], reason: str) -> RolloutState:
    """After a `renew`: at the same step, with a new window."""
    return _opened(state, counts, reason)


def _opened(state: RolloutState, counts: tuple[Counts | None, Counts | None], reason: str) -> RolloutState:
    # A window without counters has judged nothing, and has spent nothing of the error budget.
    spent = 0 if state.new is None or state.stable is None else 1
    return replace(state, window=state.window + spent, new=counts[0], stable=counts[1], reason=reason)


def paused(state: RolloutState, now: float, by: str) -> RolloutState:
    """Holds its step until it is resumed; evidence against it still takes it back."""
    return replace(state, step_at=now, paused_by=by, reason=f"paused by {by}")


def resumed(state: RolloutState, now: float, by: str) -> RolloutState:
    """After a pause: the step's time begins anew."""
    return replace(state, step_at=now, paused_by=None, reason=f"resumed by {by}")


def approved(state: RolloutState, by: str) -> RolloutState:
    """Finished by somebody's word."""
    return replace(ended(state, "finished", f"promoted by {by}"), approved_by=by)


def ended(state: RolloutState, phase: Phase, reason: str) -> RolloutState:
    """At its end; also from outside: taken back, superseded, or finished by somebody's word."""
    return replace(state, phase=phase, paused_by=None, reason=reason)


def split_of(state: RolloutState, split: Split) -> Split:
    """The split that goes with a state, made from the one that is there."""
    base = replace(split.alone(), sticky=state.policy.sticky)
    if state.phase == "finished":
        return finished(base, state.version)
    if not state.active:
        return base
    return base.trying(state.version, state.current.weight_pct, state.current.shadow_pct)
