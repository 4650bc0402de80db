"""What a metric says at one look, in numbers and in a sentence."""

from dataclasses import dataclass
from typing import Literal

_STRICT = {"extra": "forbid"}

Outcome = Literal["pass", "fail", "inconclusive"]

SCORES, DISAGREEMENT, LOSS = "scores", "disagreement", "loss"


@dataclass(frozen=True)
class Finding:
    """One metric at one look.

    Attributes:
        new: the new version's share so far; None when nothing was seen.
        stable: the stable version's, or what is expected.
        low: the least difference that is not ruled out, beyond what is expected.
        high: the greatest.
        limit: above which a difference is too much.
    """

    metric: str
    outcome: Outcome
    new: float | None
    stable: float | None
    low: float
    high: float
    limit: float

    __pydantic_config__ = _STRICT

    @property
    def difference(self) -> float | None:
        """By how much the new version's share is above what it is held against; None when nothing was seen."""
        return None if self.new is None or self.stable is None else self.new - self.stable

    @property
    def expects(self) -> bool:
        """Whether the holdout, and not the stable version alone, says what is right."""
        return self.metric == DISAGREEMENT or self.metric.startswith(SCORES)

    @property
    def sentence(self) -> str:
        """For people. A point is a hundredth: from 1 % to 3 % it is two."""
        if self.new is None or self.stable is None:
            return f"{self.metric}: nothing to compare yet"
        against = f"{_pct(self.stable)} expected" if self.expects else f"beside {_pct(self.stable)}"
        said = f"{self.metric}: {_pct(self.new)}{' of rows,' if self.expects else ''} {against}"
        match self.outcome:
            case "fail":
                proven = f"{_points(self.low)} points {'more' if self.expects else 'worse'}"
                return f"{said}; at least {proven}, and {_points(self.limit)} is allowed"
            case "inconclusive":
                return f"{said}; beyond the {_points(self.limit)} points allowed, but that may still be chance"
        if self.metric == LOSS and self.new - self.stable > self.limit:
            return f"{said}; beyond the {_points(self.limit)} points allowed, but labels are too few to say so"
        unsure = f", though up to {_points(self.high)} is not ruled out"
        unsure = unsure if self.high > self.limit else ", and that is proven"
        return f"{said}; within the {_points(self.limit)} points allowed{unsure}"


def _pct(share: float) -> str:
    return f"{100 * share:.2f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:.2f}"
