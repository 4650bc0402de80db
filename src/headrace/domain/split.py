"""Who answers a model's traffic, and who gets a copy of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True)
class Split:
    """Who answers a model's traffic.

    Attributes:
        stable: the version that answers what the canary does not.
        canary: the version that is being tried, with `canary_pct` of the traffic; None when nothing is.
        previous: the version to go back to on `rollback`; None when there is none.
        shadow: the version that gets a copy of `shadow_pct` of the traffic, and whose answers nobody reads.
        sticky: whether a client that keeps cookies stays with the version that answered it first, while that has
            traffic.
    """

    stable: int
    canary: int | None = None
    canary_pct: int = 0
    previous: int | None = None
    shadow: int | None = None
    shadow_pct: int = 0
    sticky: bool = False

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if (self.canary is None) != (self.canary_pct == 0):
            raise ValueError(f"canary {self.canary} does not go with a weight of {self.canary_pct} %")
        if self.canary is not None and (self.canary == self.stable or not 1 <= self.canary_pct <= 99):
            raise ValueError(f"canary {self.canary} at {self.canary_pct} % beside stable {self.stable} makes no sense")
        if (self.shadow is None) != (self.shadow_pct == 0):
            raise ValueError(f"shadow {self.shadow} does not go with a copy of {self.shadow_pct} %")
        if self.shadow is not None and (self.shadow in self.weights or not 1 <= self.shadow_pct <= 100):
            raise ValueError(f"shadow {self.shadow} at {self.shadow_pct} % beside {self.weights} makes no sense")

    @property
    def weights(self) -> dict[int, int]:
        """Version to percent of the traffic; they add up to 100."""
        if self.canary is None:
            return {self.stable: 100}
        return {self.stable: 100 - self.canary_pct, self.canary: self.canary_pct}

    @property
    def tried(self) -> int | None:
        """The version that is being tried, as canary or as shadow."""
        return self.canary if self.canary is not None else self.shadow

    @property
    def versions(self) -> frozenset[int]:
        """Every version that has to run: with traffic, with copies of it, or to go back to."""
        found = (self.stable, self.canary, self.shadow, self.previous)
        return frozenset(version for version in found if version is not None)

    def alone(self) -> "Split":
        """Without what is being tried."""
        return replace(self, canary=None, canary_pct=0, shadow=None, shadow_pct=0)

    def trying(self, version: int, canary_pct: int = 0, shadow_pct: int = 0) -> "Split":
        """With a version that is tried, as canary or as shadow."""
        canary, shadow = (version if canary_pct else None), (version if shadow_pct else None)
        return replace(self, canary=canary, canary_pct=canary_pct, shadow=shadow, shadow_pct=shadow_pct)


def finished(split: Split, version: int) -> Split:
    """The split once `version` has earned all traffic; the former stable is what `rollback` returns to."""
    if split.stable == version:
        return split.alone()
    return Split(stable=version, previous=split.stable, sticky=split.sticky)


def rolled_back(split: Split, to: int | None = None) -> Split | None:
    """The split after a rollback: away from what is tried, else to `to` or the previous version; None: nowhere."""
    if split.tried is not None and to in (None, split.stable):
        return split.alone()
    target = to if to is not None else split.previous
    if target is None or target == split.stable:
        return None
    return Split(stable=target, previous=split.stable, sticky=split.sticky)


def describe(split: Split) -> str:
    """A split for people: ``v3 90 %, v4 10 %`` or ``v3 100 %, v4 shadows 100 %``."""
    told = told_weights(split.weights)
    return told if split.shadow is None else f"{told}, v{split.shadow} shadows {split.shadow_pct} %"


def told_weights(weights: Mapping[int, int]) -> str:
    """Weights for people: ``v3 90 %, v4 10 %``."""
    return ", ".join(f"v{version} {pct} %" for version, pct in sorted(weights.items()))
