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


def to_matrix(contract: Contract, inputs: Mapping[str, Tensor], row_count: int) -> Matrix:
    """The matrix (row_count, n_features) of either one tensor `features` or one for each feature.

    Raises:
        Refusal: 400 the tensors are not those of the contract, or not what they say.
        RowProblems: some rows break the contract.
    """
    if MATRIX in inputs and takes_matrix(contract):
        if len(inputs) > 1:
            raise Refusal(400, f"send either the tensor {MATRIX!r} or one tensor for each feature")
        return _encoded(contract, inputs[MATRIX])
    columns: Columns = {f.name: _column(f, inputs.get(f.name), row_count) for f in contract.features}
    check_columns(contract, columns)
    return encode(contract, columns)


def _column(feature: Feature, tensor: Tensor | None, row_count: int) -> Column:
    if tensor is None:
        if not feature.missing:
            raise Refusal(400, f"input {feature.name!r} is required")
        return [None] * row_count
    if tensor.datatype not in _DATATYPES[feature.type]:
        fitting = ", ".join(_DATATYPES[feature.type])
        raise Refusal(400, f"input {feature.name!r} is of type {feature.type}: its datatype has to be of {fitting}")
    return tensor.values()


def _encoded(contract: Contract, tensor: Tensor) -> Matrix:
    if tensor.datatype == "BYTES":
        raise Refusal(400, f"the tensor {MATRIX!r} is of numbers; categories are their positions in the contract")
    # In doubles, so that what does not fit a float32 is seen before it becomes infinite.
    matrix = np.array(tensor.values(), dtype=np.float64).reshape(tensor.shape)
    _check_encoded(contract, matrix)
    return matrix.astype(np.float32)


def _check_encoded(contract: Contract, matrix: Numbers) -> None:
    features = contract.features
    low, high = np.array([_ends(feature) for feature in features]).T
    whole = np.array([feature.type != "float" for feature in features])
    optional = np.array([feature.missing for feature in features])
    # Asked this way round, NaN is refused.
    refused = ~((matrix >= low) & (matrix <= high)) | (whole & (matrix != np.floor(matrix)))
    refused &= ~(optional & np.isnan(matrix))
    rows = np.flatnonzero(refused.any(axis=1))[:PROBLEM_ROWS]
    if len(rows):
        raise RowProblems(
            [
                f"rows[{i}]: {features[j].name!r} {_expected(features[j])}"
                for i in rows
                for j in np.flatnonzero(refused[i])
            ]
        )


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
