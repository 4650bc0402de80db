"""DataFrames to what models take, and to what clients send."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from headrace.domain.contract import Contract, Feature
from headrace.domain.encoding import Matrix, encode

if TYPE_CHECKING:
    import pandas as pd


def matrix(contract: Contract, frame: "pd.DataFrame") -> Matrix:
    """Encode a frame that has the contract's features: (n_rows, n_features)."""
    return encode(contract, {f.name: _column(f, frame[f.name]) for f in contract.features})


def _column(feature: Feature, series: "pd.Series[Any]") -> Sequence[Any]:
    if feature.type == "category":
        return series.tolist()
    return cast(Sequence[Any], series.to_numpy(dtype=np.float64, na_value=np.nan))


def rows(contract: Contract, frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """The features that the frame has, as a client would send them: plain values, null for missing."""
    present = [feature for feature in contract.features if feature.name in frame]
    columns = {f.name: [_plain(f, value) for value in frame[f.name].tolist()] for f in present}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _plain(feature: Feature, value: Any) -> Any:
    if value is None or value != value or str(value) == "<NA>":  # noqa: PLR0124 - NaN is what differs from itself
        return None
    kinds: Mapping[str, type] = {"category": str, "bool": bool, "int": int, "float": float}
    return kinds[feature.type](value)
