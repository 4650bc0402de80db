"""The tensors of an infer request to the matrix that the model takes.

They say the same rows as the rows API and are held to the same rules: a property test compares the predictions.
"""

from collections.abc import Mapping

import numpy as np

from headrace.domain.contract import Contract, Feature
from headrace.domain.encoding import Matrix, encode
from serving.infer_request import MATRIX, takes_matrix
from serving.refusals import Refusal
from serving.rows import FLOAT32_MAX, PROBLEM_ROWS, Column, Columns, Numbers, RowProblems, check_columns
from serving.tensors import NUMBERS, Tensor

_DATATYPES: Mapping[str, tuple[str, ...]] = {
    "float": NUMBERS,
    "int": NUMBERS,
    "bool": ("BOOL",),
    "category": ("BYTES",),
}


class TensorEncoder:
    """Tensors of one contract to the model's matrix."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        features = contract.features
        # In float32, which holds all of them exactly.
        self._low, self._high = np.array([_ends(feature) for feature in features], dtype=np.float32).T
        self._whole = np.array([feature.type != "float" for feature in features])
        self._optional = np.array([feature.missing for feature in features])

    def encode(self, inputs: Mapping[str, Tensor], row_count: int) -> Matrix:
        """The matrix (row_count, n_features) of either one tensor `features` or one for each feature.

        Raises:
            Refusal: 400 the tensors are not those of the contract, or not what they say.
            RowProblems: some rows break the contract.
        """
        contract = self._contract
        if MATRIX in inputs and takes_matrix(contract):
            if len(inputs) > 1:
                raise Refusal(400, f"send either the tensor {MATRIX!r} or one tensor for each feature")
            return self._encoded(inputs[MATRIX])
        columns: Columns = {f.name: _column(f, inputs.get(f.name), row_count) for f in contract.features}
        check_columns(contract, columns)
        return encode(contract, columns)

    def _encoded(self, tensor: Tensor) -> Matrix:
        if tensor.datatype == "BYTES":
            raise Refusal(400, f"the tensor {MATRIX!r} is of numbers; categories are their positions in the contract")
        # In the tensor's own precision at least, so that what does not fit a float32 is seen before it is infinite.
        matrix = np.asarray(tensor.numbers()).reshape(tensor.shape)
        self._check(matrix)
        return matrix.astype(np.float32, copy=False)

    def _check(self, matrix: Numbers) -> None:
        # Asked this way round, NaN is refused.
        fine = (matrix >= self._low) & (matrix <= self._high) & (~self._whole | (matrix == np.floor(matrix)))
        fine |= self._optional & np.isnan(matrix)
        if fine.all():
            return
        features = self._contract.features
        rows = np.flatnonzero(~fine.all(axis=1))[:PROBLEM_ROWS]
        raise RowProblems(
            [
                f"rows[{i}]: {features[j].name!r} {_expected(features[j])}"
                for i in rows
                for j in np.flatnonzero(~fine[i])
            ]
        )


def _column(feature: Feature, tensor: Tensor | None, row_count: int) -> Column:
    if tensor is None:
        if not feature.missing:
            raise Refusal(400, f"input {feature.name!r} is required")
        return [None] * row_count
    if tensor.datatype not in _DATATYPES[feature.type]:
        fitting = ", ".join(_DATATYPES[feature.type])
        raise Refusal(400, f"input {feature.name!r} is of type {feature.type}: its datatype has to be of {fitting}")
    return tensor.values()


def _ends(feature: Feature) -> tuple[float, float]:
    match feature.type:
        case "bool":
            return 0.0, 1.0
        case "category":
            return 0.0, len(feature.values) - 1.0
        case "float" | "int":
            return -FLOAT32_MAX, FLOAT32_MAX


def _expected(feature: Feature) -> str:
    nan = " or NaN" if feature.missing else ""
    match feature.type:
        case "bool":
            return f"must be 0 or 1{nan}"
        case "category":
            return f"must be a position from 0 to {len(feature.values) - 1} in its categories{nan}"
        case "int":
            return f"must be an integer within ±3.4e38{nan}"
        case "float":
            return f"must be finite and within ±3.4e38{nan}"
