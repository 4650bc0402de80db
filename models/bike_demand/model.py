"""The bike demand model: gradient boosted trees, and what setting bikes out by it is worth.

`headrace.learning` loads this file and uses three names: `Params`, `build` and `value`; see models/README.md.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from headrace.domain.contract import Contract

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True)
class Params:
    """What ``train:`` in conf/bike_demand.yaml sets.

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
    min_samples_leaf: int = 20
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


def build(params: Params, contract: Contract) -> HistGradientBoostingRegressor:
    """A regressor that is not fitted yet, for the encoded matrix (n_rows, n_features); NaN is missing.

    The loss is the squared error although counts suggest Poisson: the ONNX converter drops Poisson's link in silence.
    """
    return HistGradientBoostingRegressor(
        loss="squared_error",
        max_iter=params.max_iter,
        learning_rate=params.learning_rate,
        max_leaf_nodes=params.max_leaf_nodes,
        min_samples_leaf=params.min_samples_leaf,
        l2_regularization=params.l2_regularization,
        random_state=params.random_state,
        early_stopping=False,
    )


def value(rows: pd.DataFrame, prediction: NDArray) -> NDArray:
    """Hires served less bikes left idle when as many bikes are set out as predicted, row by row.

    Args:
        rows: with the label `bikers`.
        prediction: hires, (n_rows,), aligned with `rows`; a negative one sets out no bike.

    Returns:
        Bikes, (n_rows,).
    """
    demand = rows["bikers"].to_numpy(dtype=float)
    bikes = np.clip(np.asarray(prediction, dtype=float), 0.0, None)
    return np.minimum(demand, bikes) - np.clip(bikes - demand, 0.0, None)
