"""The story of a rollout, for whoever has to understand it at night: what is, why, and what led to it."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.domain.findings import Finding
from headrace.domain.rollout import Look, RolloutState, deadline

_MOST_LINES = 40
_MINUTE_S = 60
_DID = {"hold": "held", "advance": "passed", "renew": "counted anew", "take back": "taken back"}
# What a person said without a decision of the rollout's own: see `paused`, `resumed` and `approved`.
_WORDS = ("paused by ", "resumed by ", "promoted by ")


@dataclass(frozen=True)
class Chapter:
    """Looks, one after the other, at which the same was decided for the same kind of reason.

    Attributes:
        began_s: from the rollout's beginning to the first of them.
        look: the last of them.
        count: how many they are.
    """

    began_s: float
    look: Look
    count: int

    @property
    def did(self) -> str:
        """The decision in a word or two."""
        action = self.look.action
        by_hand = action.reason.startswith(_WORDS) and not action.findings
        return "by hand" if by_hand else _DID[action.kind]


def chapters(state: RolloutState, looks: Sequence[Look]) -> list[Chapter]:
    """All looks, with those that said nothing new put together."""
    found: list[Chapter] = []
    for look in looks:
        if found and _same(found[-1].look, look):
            found[-1] = Chapter(found[-1].began_s, look, found[-1].count + 1)
        else:
            found.append(Chapter(max(look.at - state.began_at, 0.0), look, 1))
    return found


def _same(before: Look, look: Look) -> bool:
    ours, theirs = look.action, before.action
    if (look.step, look.traffic, ours.kind) != (before.step, before.traffic, theirs.kind):
        return False
    # Numbers grow from look to look; a person's word stands alone.
    return ours.reason == theirs.reason or bool(ours.findings and theirs.findings)


def last_findings(looks: Sequence[Look]) -> tuple[Finding, ...]:
    """What was judged last; empty when nothing was."""
    return next((look.action.findings for look in reversed(looks) if look.action.findings), ())


def answered(looks: Sequence[Look]) -> int:
    """Requests that the new version answered while it had a share of the traffic; probes are among them."""
    total, window = 0, 0
    for look in looks:
        window = max(window, look.action.requests[0] if look.new_pct else 0)
        if look.action.kind in ("advance", "renew"):
            total, window = total + window, 0
    return total + window


def headline(state: RolloutState, now: float) -> str:
    """How it stands, in a sentence. `now` is in seconds since 1970."""
    name, step = f"v{state.version}", state.current.describe()
    last = "as a shadow" if state.current.shadow_pct else f"at {step}"
    match state.phase:
        case "finished":
            return f"{name} has finished its rollout and was given all traffic."
        case "taken back":
            return f"{name} was taken back {last}: the stable version answers everything."
        case "superseded":
            return f"{name} made way {last}."
    left = lasting(max(deadline(state) - (now - state.step_at), 0.0))
    if state.phase == "waiting":
        return f"{name} has passed every step and waits for approval, for {left} more; then it is taken back."
    at = "a shadow, of whose answers clients get none" if state.current.shadow_pct else f"at {step} of the traffic"
    where = f"{name} is {at}; step {state.step + 1} of {len(state.policy.steps)}"
    if state.paused_by:
        return f"{where}, and paused by {state.paused_by} for {left} more; then it is taken back."
    return f"{where}, which may last {left} more."


def lasting(seconds: float) -> str:
    """``12.3 s``, ``4 min 5 s`` or ``3 h 12 min``."""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def sentences(state: RolloutState, looks: Sequence[Look], now: float) -> list[str]:
    """The whole story, a line each.

    Args:
        state: as it is now, or ended.
        looks: all of them, in order.
        now: seconds since 1970.
    """
    why = looks[-1].action.reason if looks and state.active else state.reason
    told = [headline(state, now), f"Why: {why}."]
    told += _events(state, looks)
    findings = last_findings(looks)
    if findings:
        new, stable = next(look.action.requests for look in reversed(looks) if look.action.findings)
        told += ["", f"The last evidence, v{state.version} beside the stable version ({new} answers beside {stable}):"]
        told += [f"  {_MARKS[one.outcome]} {one.sentence}" for one in findings]
        share = f"{100 * state.policy.error_budget:g} %"
        told += [
            "",
            f"With traffic v{state.version} answered {answered(looks)} requests, probes included.",
            f"Evidence takes back a version that is within all limits in at most {share} of its rollouts.",
        ]
    return told


_MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "?"}


def _events(state: RolloutState, looks: Sequence[Look]) -> list[str]:
    found = chapters(state, looks)
    if not found:
        return []
    left_out = len(found) - _MOST_LINES
    lines = ["", "What happened:", *([f"  ... {left_out} lines before"] if left_out > 0 else [])]
    width = max(len(one.look.step) for one in found)
    for one in found[-_MOST_LINES:]:
        times = f", {one.count} looks" if one.count > 1 else ""
        lines.append(f"  {one.began_s:8.1f} s  {one.look.step:<{width}}  {one.did}{times}: {one.look.action.reason}")
    return lines
