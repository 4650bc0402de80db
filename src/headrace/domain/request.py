"""What a pipeline run is asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.domain.gate import GatePolicy
from headrace.domain.lineage import DatasetFingerprint
from headrace.domain.rollout_policy import RolloutPolicy

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True)
class Window:
    """How far back a run looks: train on `train_days`, judge on the `holdout_days` after them, which end at `as_of`."""

    train_days: int
    holdout_days: int

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if self.train_days < 1 or self.holdout_days < 1:
            raise ValueError(f"train_days {self.train_days} and holdout_days {self.holdout_days} must be at least 1")


@dataclass(frozen=True)
class TrainingConfig:
    """The resolved configuration of a model, from ``conf/``.

    Attributes:
        as_of: what "now" is for this run (UTC; a value without a zone is UTC).
        train: parameters of the model; its model.py says which.
    """

    as_of: datetime
    window: Window
    train: Mapping[str, Any]
    gate: GatePolicy
    rollout: RolloutPolicy

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if self.as_of.tzinfo is None:
            object.__setattr__(self, "as_of", self.as_of.replace(tzinfo=UTC))

    @property
    def holdout_start(self) -> datetime:
        """Where training ends and the holdout begins."""
        return self.as_of - timedelta(days=self.window.holdout_days)

    @property
    def train_start(self) -> datetime:
        """Where training begins."""
        return self.holdout_start - timedelta(days=self.window.train_days)

    def fingerprint(self, outputs: Mapping[str, str]) -> DatasetFingerprint:
        """The dataset that this configuration looks at, given the DVC hashes of what there is."""
        return DatasetFingerprint(dict(outputs), self.as_of, self.train_start, self.holdout_start)


@dataclass(frozen=True)
class TrainingRequest:
    """A training that somebody or something asks for.

    Attributes:
        overrides: Hydra overrides of the model's configuration, e.g. ``("as_of=2013-07-01", "train.max_iter=300")``.
        reason: who or what asked, for the record.
    """

    model: str
    overrides: tuple[str, ...] = ()
    reason: str = "asked for by hand"

    __pydantic_config__ = _STRICT
