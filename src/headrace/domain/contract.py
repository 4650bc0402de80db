"""The contract of a model: what its rows, features, label, slices and budgets are.

Written by hand in ``models/<model>/contract.yaml`` and read by everything else. `__post_init__` checks what types
cannot say and raises `ValueError`; `headrace.documents` turns that into a `ContractError` with the file and the key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Task = Literal["binary", "multiclass", "regression"]
FeatureType = Literal["float", "int", "bool", "category"]
Fallback = Literal["default", "refuse"]
Extra = Literal["key", "time"]

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
        default: what the service uses when the online store has no usable value; without one that is null.
    """

    name: str
    type: FeatureType
    description: str
    unit: str = ""
    range: tuple[float, float] | None = None
    values: tuple[str, ...] = ()
    missing: bool = False
    view: str | None = None
    default: float | int | bool | str | None = None

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
        if self.default is not None:
            self._check_default(self.default)

    def _check_default(self, default: float | bool | str) -> None:
        # The very type: to Python a bool is an int.
        kinds = {"float": (float, int), "int": (int,), "bool": (bool,), "category": (str,)}[self.type]
        if type(default) not in kinds:
            raise ValueError(f"feature {self.name!r}: `default` {default!r} does not fit type {self.type}")
        if self.values and default not in self.values:
            raise ValueError(f"feature {self.name!r}: `default` {default!r} is none of its `values`")
        # Asked this way round, NaN is refused.
        if isinstance(default, int | float) and self.range and not self.range[0] <= default <= self.range[1]:
            raise ValueError(f"feature {self.name!r}: `default` {default!r} is outside range {list(self.range)}")
        if self.view is None:
            raise ValueError(
                f"feature {self.name!r}: `default` belongs to a feature with a `view`: the client sends this"
            )


@dataclass(frozen=True)
class FeatureView:
    """A table of feature values over time, joined by `entity` as of the decision time.

    Attributes:
        entity: the column of the rows that is the join key.
        source: Parquet file, relative to the project.
        time: column with the moment from which the value is known (UTC).
        max_age_h: hours after which a value is too old to use and counts as missing.
        fallback: what the service does when it has no usable value: use each feature's `default`, or refuse the row.
            None is `default` where every feature of the view has a default or may be missing, else `refuse`.
    """

    entity: str
    source: str
    time: str
    max_age_h: float
    description: str = ""
    fallback: Fallback | None = None

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
        for name, view in self.views.items():
            bare = self._without_default(name)
            if view.fallback == "default" and bare:
                raise ValueError(f"view {name!r}: `fallback: default` needs a `default` or `missing: true` of {bare}")

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names in model order."""
        return tuple(f.name for f in self.features)

    @property
    def entities(self) -> tuple[str, ...]:
        """The join keys of all views, each once, sorted."""
        return tuple(sorted({view.entity for view in self.views.values()}))

    @cached_property
    def row_extras(self) -> Mapping[str, Extra]:
        """What a row that asks for features by key may hold besides features, by name.

        A `key` is text: the join keys and the row's own key. The `time` is the moment of the decision, RFC 3339: a
        value of a view that was not known then, or was too old then, is not used. A row that does not say it is decided
        on now.
        """
        extras: dict[str, Extra] = dict.fromkeys((*self.entities, self.rows.key), "key")
        extras[self.rows.decision_time] = "time"
        return {name: kind for name, kind in extras.items() if name not in self.feature_names}

    def view_features(self, view: str) -> tuple[Feature, ...]:
        """The features that a view holds, in model order."""
        return tuple(f for f in self.features if f.view == view)

    def fallback(self, view: str) -> Fallback:
        """What the service does when it has no usable value of a view; see `FeatureView.fallback`."""
        return self.views[view].fallback or ("refuse" if self._without_default(view) else "default")

    def _without_default(self, view: str) -> list[str]:
        return [f.name for f in self.view_features(view) if f.default is None and not f.missing]

    def feature(self, name: str) -> Feature:
        """The feature of that name; KeyError if there is none."""
        return {f.name: f for f in self.features}[name]
