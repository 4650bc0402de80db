"""What a view of the contract makes of the values that the online store holds for a key."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from headrace.domain.contract import Contract, Feature
from serving.online_store import Stored
from serving.rows import FLOAT32_MAX

Reason = Literal["absent", "stale", "future", "unreadable"]
"""Why there is no usable value: the key has none, it is older than the contract allows, it is later than the row's
decision time, or it could not be read within the deadline or is none that the contract allows."""

_ABSENT = object()
_TYPES: Mapping[str, Any] = {"float": float, "int": int, "bool": bool, "category": str}


class Judged(NamedTuple):
    """The values of a view for a key, as far as the contract can use them.

    Attributes:
        values: every feature of the view; its default where there is no usable value.
        lacking: the features that have none, and why.
        event_time_s: the moment from which they are known, seconds since 1970 UTC.
    """

    values: Mapping[str, Any]
    lacking: Mapping[str, Reason]
    event_time_s: float


class ViewRules:
    """What the contract says about one view."""

    def __init__(self, contract: Contract, view: str) -> None:
        self.name = view
        self.entity = contract.views[view].entity
        self.max_age_h = contract.views[view].max_age_h
        self.max_age_s = self.max_age_h * 3600
        self.refuses = contract.fallback(view) == "refuse"
        features = contract.view_features(view)
        self.names = frozenset(feature.name for feature in features)
        self.defaults = {feature.name: feature.default for feature in features}
        self._judged = [(feature.name, feature, feature.type == "float") for feature in features]

    def judge(self, stored: Stored) -> Judged:
        """Sort a key's values into usable and not."""
        values: dict[str, Any] = {}
        lacking: dict[str, Reason] = {}
        for name, feature, is_float in self._judged:
            value = stored.values.get(name, _ABSENT)
            # The usual case, asked first. NaN is not within any bounds.
            if is_float and value.__class__ is float and -FLOAT32_MAX <= value <= FLOAT32_MAX:
                values[name] = value
                continue
            if value.__class__ is float and math.isnan(value):
                # To the model NaN and null are one.
                value = None
            reason = _lack(feature, value)
            values[name] = feature.default if reason else value
            if reason:
                lacking[name] = reason
        return Judged(values, lacking, stored.event_time_s)


def _lack(feature: Feature, value: Any) -> Reason | None:
    if value is _ABSENT:
        return "absent"
    if value is None:
        # A null that is stored is what the model has learnt from, when it may be missing.
        return None if feature.missing else "absent"
    if isinstance(value, str):
        fits = feature.type == "category" and (feature.missing or value in feature.values)
    else:
        # The very type: to Python a bool is an int.
        fits = type(value) is _TYPES[feature.type] and abs(value) <= FLOAT32_MAX
    return None if fits else "unreadable"
