"""How a new version earns its traffic: what ``conf/rollout/`` says."""

import math
from dataclasses import dataclass, field

from headrace.domain.evidence import Limits

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True)
class RolloutStep:
    """A share of the traffic, or of copies of it, until there is evidence.

    Attributes:
        weight_pct: share that the version answers, 1 to 99; 0 in a shadow step.
        shadow_pct: share of which it gets copies, 1 to 100; 0 in any other step.
        min_requests: answers of either version without which the step is not over.
        hold_s: the least time.
        timeout_s: the most; a step that is not over by then takes the version back.
    """

    weight_pct: int = 0
    shadow_pct: int = 0
    min_requests: int = 50
    hold_s: float = 2.0
    timeout_s: float = 60.0

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if (self.weight_pct > 0) == (self.shadow_pct > 0):
            raise ValueError(f"a step has either weight_pct {self.weight_pct} or shadow_pct {self.shadow_pct}")
        if not 0 <= self.weight_pct <= 99:
            raise ValueError(
                f"weight_pct {self.weight_pct} is not within 1 and 99: after the last step a version gets all traffic"
            )
        if not 0 <= self.shadow_pct <= 100:
            raise ValueError(f"shadow_pct {self.shadow_pct} is not within 1 and 100")
        if self.min_requests < 1:
            raise ValueError(f"min_requests {self.min_requests} must be at least 1: a step needs evidence")
        if not 0 <= self.hold_s < self.timeout_s < math.inf:
            raise ValueError(
                f"hold_s {self.hold_s} and timeout_s {self.timeout_s} have to be finite, and to ascend from 0"
            )

    def describe(self) -> str:
        """``10 %`` or ``shadow``."""
        return f"{self.weight_pct} %" if self.weight_pct else "shadow"


@dataclass(frozen=True)
class RolloutPolicy:
    """How a new version earns its traffic.

    Attributes:
        steps: shadow steps first, then ascending shares; after the last one the version gets all traffic.
        limits: by how much it may be worse than the stable version.
        error_budget: the chance, at most, that a version which is within all limits is taken back on evidence.
        interval_s: between two looks.
        probes: whether rows of the holdout are sent where clients send too few requests.
        approval: whether somebody has to approve of 100 %.
        approval_timeout_s: how long a person may take, to approve or to resume; then the version is taken back.
        ready_timeout_s: how long a version may take to become ready.
        sticky: whether clients that keep cookies stay with a version.
    """

    steps: tuple[RolloutStep, ...]
    limits: Limits = field(default_factory=Limits)
    error_budget: float = 0.01
    interval_s: float = 5.0
    probes: bool = True
    approval: bool = False
    approval_timeout_s: float = 86_400.0
    ready_timeout_s: float = 60.0
    sticky: bool = False

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        shares = [step.weight_pct for step in self.steps]
        weights = [one for one in shares if one]
        if not shares or shares != sorted(shares) or len(set(weights)) < len(weights):
            raise ValueError(f"rollout steps {shares} have to be there, and to ascend (0 is a shadow)")
        if not 0 < self.error_budget <= 0.5:
            raise ValueError(f"error_budget {self.error_budget} is not above 0 and at most 0.5")
        for name in ("interval_s", "approval_timeout_s", "ready_timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} {getattr(self, name)} must be above 0 and finite")
