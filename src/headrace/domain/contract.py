"""The contract of a model: what its rows, features, label, slices and budgets are.

Written by hand in ``models/<model>/contract.yaml`` and read by everything else. `__post_init__` checks what types
cannot say and raises `ValueError`; `headrace.documents` turns that into a `ContractError` with the file and the key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Task = Literal["binary", "multiclass", "regression"]
FeatureType = Literal["float", "int", "bool", "category"]

_STRICT = {"extra": "forbid"}
_NAME = re.compile(r"[a-z][a-z0-9_]*")

PRIMARY_METRICS: Mapping[str, tuple[str, ...]] = {
    "binary": ("auc", "average_precision", "log_loss", "brier"),
    "multiclass": ("accuracy", "log_loss"),
    "regression": ("rmse", "mae"),
}


@dataclass(frozen=True)
class Feature:
    """One model input, in the order in which the model takes it.

    Attributes:
        view: the feature view that holds it; None when the caller of the service sends it.
        range: inclusive lowest and highest plausible value, in `unit`.
        values: the categories of a `category`; the position of a value is its code.
        missing: whether null is allowed. A category that is not in `values` counts as missing.
    """

    name: str
    type: FeatureType
    description: str
    unit: str = ""
    range: tuple[float, float] | None = None
    values: tuple[str, ...] = ()
    missing: bool = False
    view: str | None = None

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"feature name {self.name!r} is not snake_case")
        if (self.type == "category") != bool(self.values):
            raise ValueError(f"feature {self.name!r}: `values` belongs to type category, and to no other")
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"feature {self.name!r}: `values` has a repeated category")
        if self.type in ("float", "int") and self.range is None:
            raise ValueError(f"feature {self.name!r}: type {self.type} needs a `range`")
        if self.range is not None and not self.range[0] <= self.range[1]:
            raise ValueError(f"feature {self.name!r}: range {list(self.range)} has its ends swapped")


@dataclass(frozen=True)
class FeatureView:
    """A table of feature values over time, joined by `entity` as of the decision time.

    Attributes:
        entity: the column of the rows that is the join key.
        source: Parquet file, relative to the project.
        time: column with the moment from which the value is known (UTC).
        max_age_h: hours after which a value is too old to use and counts as missing.
    """

    entity: str
    source: str
    time: str
    max_age_h: float
    description: str = ""

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Rows:
    """Where the rows to predict come from.

    Attributes:
        source: folder of Parquet files, relative to the project.
        stage: the dvc.yaml whose stages make it, relative to the project.
        key: column that names a row, unique.
        decision_time: column with the moment of the prediction (UTC); nothing known later may be used.
        value_columns: columns kept for the business value; never shown to the model.
    """

    source: str
    stage: str
    key: str
    decision_time: str
    value_columns: tuple[str, ...] = ()

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class LabelDelay:
    """How long after the decision the label is known, hours, as measured on the data."""

    p10: float
    p50: float
    p90: float

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Label:
    """What the model predicts.

    Attributes:
        time: column with the moment at which the label became known (UTC).
        classes: the class names of a multiclass label; the label column holds their positions.
    """

    name: str
    description: str
    time: str
    delay_h: LabelDelay
    unit: str = ""
    classes: tuple[str, ...] = ()

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Slice:
    """A group of rows that is judged on its own: one per category, or one per bin `[bins[i], bins[i+1])`."""

    feature: str
    bins: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if self.bins and len(self.labels) != len(self.bins) - 1:
            raise ValueError(f"slice of {self.feature!r}: {len(self.bins)} bins need {len(self.bins) - 1} labels")
        if list(self.bins) != sorted(self.bins):
            raise ValueError(f"slice of {self.feature!r}: bins are not ascending")


@dataclass(frozen=True)
class BusinessValue:
    """What a row's prediction is worth; computed by `value()` in the model's model.py, summed over rows."""

    name: str
    unit: str
    description: str

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Budgets:
    """The most that one prediction may take and one model file may weigh."""

    latency_ms_p99: float
    size_mb: float

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Contract:
    """Everything that is agreed about a model; see `models/README.md` for the keys.

    Attributes:
        metric: the primary metric, one of `PRIMARY_METRICS[task]`.
        example: one complete row, feature name to value; it is the service's and the curl line's example.
    """

    model: str
    description: str
    task: Task
    rows: Rows
    label: Label
    features: tuple[Feature, ...]
    metric: str
    business_value: BusinessValue
    budgets: Budgets
    example: Mapping[str, Any]
    views: Mapping[str, FeatureView] = field(default_factory=dict)
    slices: Mapping[str, Slice] = field(default_factory=dict)
    schema_version: Literal[1] = 1

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.model):
            raise ValueError(f"model {self.model!r} is not snake_case")
        names = self.feature_names
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise ValueError(f"features {twice} are declared twice")
        if self.metric not in PRIMARY_METRICS[self.task]:
            raise ValueError(f"metric {self.metric!r} is none of {list(PRIMARY_METRICS[self.task])} for {self.task}")
        if (self.task == "multiclass") != bool(self.label.classes):
            raise ValueError("`label.classes` belongs to task multiclass, and to no other")
        for feature in self.features:
            if feature.view is not None and feature.view not in self.views:
                raise ValueError(
                    f"feature {feature.name!r} names view {feature.view!r}; views are {sorted(self.views)}"
                )
        for name, part in self.slices.items():
            if part.feature not in names:
                raise ValueError(f"slice {name!r} names {part.feature!r}, which is not a feature")
            if not part.bins and self.feature(part.feature).type != "category":
                raise ValueError(f"slice {name!r}: {part.feature!r} is not a category, so it needs `bins` and `labels`")
        if set(self.example) != set(names):
            missing, extra = sorted(set(names) - set(self.example)), sorted(set(self.example) - set(names))
            raise ValueError(f"example has to name every feature once: missing {missing}, not features {extra}")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names in model order."""
        return tuple(f.name for f in self.features)

    @property
    def entities(self) -> tuple[str, ...]:
        """The join keys of all views, each once, sorted."""
        return tuple(sorted({view.entity for view in self.views.values()}))

    def feature(self, name: str) -> Feature:
        """The feature of that name; KeyError if there is none."""
        return {f.name: f for f in self.features}[name]
