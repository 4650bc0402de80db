"""The flight delay model: gradient boosted trees, and what its flags are worth.

`headrace.learning` loads this file and uses three names: `Params`, `build` and `value`; see models/README.md.
"""

from dataclasses import dataclass

import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from headrace.domain.contract import Contract

FLAG_SHARE = 0.05
_STRICT = {"extra": "forbid"}


@dataclass(frozen=True)
class Params:
    """What ``train:`` in conf/flight_delay.yaml sets.

    Attributes:
        max_iter: number of trees.
        learning_rate: how much of each tree is added, above 0 to 1.
        max_leaf_nodes: leaves a tree may have.
        min_samples_leaf: rows a leaf must have.
        l2_regularization: shrinks the leaves' values; 0 is none.
        random_state: seed; equal rows and parameters give an equal model.
    """

    max_iter: int = 200
    learning_rate: float = 0.06
    max_leaf_nodes: int = 31
    min_samples_leaf: int = 100
    l2_regularization: float = 1.0
    random_state: int = 0

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        limits = {
            "max_iter": (1, 5000),
            "learning_rate": (1e-4, 1.0),
            "max_leaf_nodes": (2, 1024),
            "min_samples_leaf": (1, 100_000),
            "l2_regularization": (0.0, 1e6),
            "random_state": (0, 2**32 - 1),
        }
        for name, (lowest, highest) in limits.items():
            found = getattr(self, name)
            if not lowest <= found <= highest:
                raise ValueError(f"{name} {found} is not within {lowest} and {highest}")


def build(params: Params, contract: Contract) -> HistGradientBoostingClassifier:
    """A classifier that is not fitted yet, for the encoded matrix (n_rows, n_features); NaN is missing.

    Categories stay ordinal codes: their native splits cannot be exported to ONNX.
    """
    return HistGradientBoostingClassifier(
        max_iter=params.max_iter,
        learning_rate=params.learning_rate,
        max_leaf_nodes=params.max_leaf_nodes,
        min_samples_leaf=params.min_samples_leaf,
        l2_regularization=params.l2_regularization,
        random_state=params.random_state,
        early_stopping=False,
    )


def value(rows: pd.DataFrame, prediction: NDArray) -> NDArray:
    """Delay minutes that a flag catches, row by row.

    Re-accommodation has room for 5 % of a day's flights, at least one: those with the highest predictions are
    flagged, equal ones in the order of the rows. A flagged flight is worth the minutes by which it came late.

    Args:
        rows: with `decision_time` (UTC; its date is the day) and `delay_minutes`, null counts as none.
        prediction: probability of `late`, (n_rows,), aligned with `rows`.

    Returns:
        Minutes, (n_rows,), 0 where nothing is flagged.
    """
    scores = pd.Series(prediction, index=rows.index)
    rank = scores.groupby(rows["decision_time"].dt.date).rank(method="first", pct=True)
    return rows["delay_minutes"].fillna(0.0).where(rank > 1 - FLAG_SHARE, 0.0).to_numpy(dtype=float)
