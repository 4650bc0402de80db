"""Moving traffic to a new version step by step, and back at the first evidence against it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True)
class RolloutStep:
    """A share of the traffic, held for at least `hold_s` seconds."""

    weight_pct: int
    hold_s: float

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if not 1 <= self.weight_pct <= 100:
            raise ValueError(f"weight_pct {self.weight_pct} is not within 1 and 100")
        if self.hold_s < 0:
            raise ValueError(f"hold_s {self.hold_s} is negative")


@dataclass(frozen=True)
class RolloutPolicy:
    """How a new version earns its traffic.

    Attributes:
        steps: ascending shares; the last is 100.
        probe_count: requests from the holdout that are sent to the new version at each step, so that a step without
            client traffic still has evidence.
        max_error_share: errors by answers of the new version, above which it goes back, 0 to 1.
        ready_timeout_s: how long a new version may take to become ready.
        step_timeout_s: how long a step may wait for evidence before the rollout goes back.
    """

    steps: tuple[RolloutStep, ...]
    probe_count: int
    max_error_share: float
    ready_timeout_s: float
    step_timeout_s: float

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        weights = [step.weight_pct for step in self.steps]
        if not weights or weights[-1] != 100 or weights != sorted(set(weights)):
            raise ValueError(f"rollout steps {weights} have to ascend and end at 100")
        if self.probe_count < 1:
            raise ValueError(f"probe_count {self.probe_count} must be at least 1: a step needs evidence")
        if not 0 <= self.max_error_share < 1:
            raise ValueError(f"max_error_share {self.max_error_share} is not within 0 and 1")


@dataclass(frozen=True)
class Split:
    """Who answers a model's traffic.

    Attributes:
        stable: the version that answers what the canary does not.
        canary: the version that is being tried, with `canary_pct` of the traffic; None when nothing is.
        previous: the version to go back to on `rollback`; None when there is none.
    """

    stable: int
    canary: int | None = None
    canary_pct: int = 0
    previous: int | None = None

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if (self.canary is None) != (self.canary_pct == 0):
            raise ValueError(f"canary {self.canary} does not go with a weight of {self.canary_pct} %")
        if self.canary is not None and (self.canary == self.stable or not 1 <= self.canary_pct <= 99):
            raise ValueError(f"canary {self.canary} at {self.canary_pct} % beside stable {self.stable} makes no sense")

    @property
    def weights(self) -> dict[int, int]:
        """Version to percent of the traffic; they add up to 100."""
        if self.canary is None:
            return {self.stable: 100}
        return {self.stable: 100 - self.canary_pct, self.canary: self.canary_pct}


@dataclass(frozen=True)
class Observation:
    """What was seen of the canary since the step began.

    Attributes:
        answers: requests that it answered, with or without an error.
        errors: answers with status 500 or above.
        elapsed_s: since the step began.
        alive: whether its process is ready; None when that could not be found out.
    """

    answers: int
    errors: int
    elapsed_s: float
    alive: bool | None


@dataclass(frozen=True)
class Action:
    """What to do next, and why."""

    kind: Literal["hold", "advance", "abort"]
    reason: str


def next_action(policy: RolloutPolicy, step: RolloutStep, seen: Observation) -> Action:
    """Decide at one look. Missing evidence never advances: it holds, and aborts at the step's deadline."""
    if seen.answers and seen.errors / seen.answers > policy.max_error_share:
        return Action(
            "abort",
            f"{seen.errors} of {seen.answers} answers were errors, more than {policy.max_error_share:.1%} allowed",
        )
    if seen.alive is False:
        return Action("abort", "the new version is no longer ready")
    enough = seen.answers >= policy.probe_count and seen.alive is True
    if enough and seen.elapsed_s >= step.hold_s:
        return Action("advance", f"{seen.answers} answers, {seen.errors} errors in {seen.elapsed_s:.1f} s")
    if seen.elapsed_s >= policy.step_timeout_s:
        return Action(
            "abort", f"no evidence within {policy.step_timeout_s:g} s: {seen.answers} of {policy.probe_count} answers"
        )
    return Action("hold", f"{seen.answers} of {policy.probe_count} answers after {seen.elapsed_s:.1f} s")


def finished(split: Split, version: int) -> Split:
    """The split once `version` has earned all traffic; the former stable is what `rollback` returns to."""
    if split.stable == version:
        return Split(stable=version, previous=split.previous)
    return Split(stable=version, previous=split.stable)


def rolled_back(split: Split, to: int | None = None) -> Split | None:
    """The split after a rollback: away from a canary, else to `to` or the previous version. None: nowhere to go."""
    if split.canary is not None and to in (None, split.stable):
        return Split(stable=split.stable, previous=split.previous)
    target = to if to is not None else split.previous
    if target is None or target == split.stable:
        return None
    return Split(stable=target, previous=split.stable)


def describe(weights: Mapping[int, int]) -> str:
    """Weights for people: ``v3 90 %, v4 10 %``."""
    return ", ".join(f"v{version} {pct} %" for version, pct in sorted(weights.items()))
