"""The body of an infer request to tensors whose shapes are known to be possible.

Everything that a request says of itself is checked here before it is used: lengths against the body, shapes against
the contract and the limits. The values are looked at later, by `serving.infer_matrix`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.domain.contract import Contract
from serving.bodies import decode
from serving.limits import Limits
from serving.outputs import Asked, asked_outputs, flag, parameters_of
from serving.refusals import Refusal
from serving.tensors import DATATYPES, Tensor

MATRIX = "features"
_ID_CHARS = 128
_NAME_CHARS = 64
# What the document may have beside the rows: itself, its inputs and outputs with their shapes and parameters.
_BRACKETS_PER_TENSOR = 8


@dataclass(frozen=True)
class InferRequest:
    """What is asked.

    Attributes:
        id: the client's name for the request, which the answer repeats.
        inputs: tensors by name, all of `row_count` rows.
    """

    id: str | None
    inputs: Mapping[str, Tensor]
    outputs: tuple[Asked, ...]
    row_count: int


def takes_matrix(contract: Contract) -> bool:
    """Whether the tensor `features` is the matrix; a contract may have a feature of that name."""
    return MATRIX not in contract.feature_names


def parse_infer(body: bytes, json_bytes: int | None, contract: Contract, limits: Limits) -> InferRequest:
    """Understand a request but for its values.

    Args:
        body: JSON, then the binary data of the inputs in their order.
        json_bytes: length of the JSON; None when there is nothing else.
        contract: says which inputs and outputs there are.
        limits: of the rows.

    Raises:
        Refusal: 400 not of the protocol's form, 413 too many rows.
    """
    if json_bytes is not None and json_bytes > len(body):
        raise Refusal(400, f"Inference-Header-Content-Length is more than the {len(body)} bytes of the body")
    document = _document(body[:json_bytes], contract, limits)
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise Refusal(400, "'inputs' has to be a list of at least one tensor")
    if len(inputs) > len(contract.features):
        raise Refusal(400, f"'inputs' has more tensors than {contract.model} has features")
    binary = memoryview(body)[len(body) if json_bytes is None else json_bytes :]
    tensors = _tensors(inputs, binary, contract, limits)
    row_counts = {tensor.shape[0] for tensor in tensors.values()}
    if len(row_counts) > 1:
        raise Refusal(400, "the inputs have different numbers of rows: the first dimension of every shape is the rows")
    binary_by_default = flag(parameters_of(document, "the request"), "binary_data_output", False)
    outputs = asked_outputs(document.get("outputs"), contract, binary_by_default)
    return InferRequest(_id(document), tensors, outputs, row_counts.pop())


def _tensors(inputs: list[Any], binary: memoryview, contract: Contract, limits: Limits) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for position, given in enumerate(inputs):
        tensor, binary = _tensor(given, f"inputs[{position}]", binary, contract, limits)
        if tensor.name in tensors:
            raise Refusal(400, f"input {tensor.name!r} is there twice")
        tensors[tensor.name] = tensor
    if binary:
        raise Refusal(400, f"the body goes on for {len(binary)} bytes after the inputs' binary data")
    return tensors


def _document(text: bytes, contract: Contract, limits: Limits) -> dict[str, Any]:
    width = len(contract.features) + 1
    # Before decoding, as for rows: nested data has a list a row, for each feature where they are sent apart.
    if text.count(b"{") + text.count(b"[") > width * (limits.rows + _BRACKETS_PER_TENSOR) + _BRACKETS_PER_TENSOR:
        raise _too_many(limits)
    document = decode(text)
    if not isinstance(document, dict):
        raise Refusal(400, 'the body has to be {"inputs": [{"name", "shape", "datatype", "data"}, ...]}')
    return document


def _id(document: Mapping[str, Any]) -> str | None:
    given = document.get("id")
    if given is not None and (not isinstance(given, str) or len(given) > _ID_CHARS):
        raise Refusal(400, f"'id' has to be a string of at most {_ID_CHARS} characters")
    return given


def _tensor(
    given: Any, place: str, binary: memoryview, contract: Contract, limits: Limits
) -> tuple[Tensor, memoryview]:
    """One input, and what it leaves of the binary data."""
    if not isinstance(given, dict):
        raise Refusal(400, f"{place} has to be an object")
    name, datatype = _name(given.get("name"), place, contract), given.get("datatype")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise Refusal(400, f"the datatype of input {name!r} has to be one of {', '.join(DATATYPES)}")
    shape = _shape(given.get("shape"), name, contract, limits)
    data, parameters = given.get("data"), parameters_of(given, f"input {name!r}")
    size = parameters.get("binary_data_size")
    if (size is None) == (data is None):
        raise Refusal(400, f"input {name!r} has to have either 'data' or the parameter 'binary_data_size'")
    if size is None:
        if not isinstance(data, list):
            raise Refusal(400, f"the data of input {name!r} has to be a list")
        if datatype == "FP16":
            raise Refusal(400, f"input {name!r}: the protocol has FP16 as binary data only")
        return Tensor(name, datatype, shape, data=data), binary
    if type(size) is not int or not 0 <= size <= len(binary):
        raise Refusal(400, f"input {name!r}: binary_data_size has to be a length within the {len(binary)} bytes left")
    return Tensor(name, datatype, shape, raw=binary[:size]), binary[size:]


def _name(name: Any, place: str, contract: Contract) -> str:
    if not isinstance(name, str):
        raise Refusal(400, f"{place} has to have a name")
    if name not in contract.feature_names and not (name == MATRIX and takes_matrix(contract)):
        raise Refusal(400, f"{name[:_NAME_CHARS]!r} is not a feature of {contract.model}")
    return name


def _shape(shape: Any, name: str, contract: Contract, limits: Limits) -> tuple[int, ...]:
    is_matrix = name == MATRIX and takes_matrix(contract)
    width = len(contract.features) if is_matrix else 1
    allowed = f"[rows, {width}]" if is_matrix else "[rows] or [rows, 1]"
    if (
        not isinstance(shape, list)
        or not (2 if is_matrix else 1) <= len(shape) <= 2
        or any(type(size) is not int for size in shape)
        or shape[0] < 1
        or shape[1:] not in ([], [width])
    ):
        raise Refusal(400, f"the shape of input {name!r} has to be {allowed}, with at least one row")
    if shape[0] > limits.rows:
        raise _too_many(limits)
    return tuple(shape)


def _too_many(limits: Limits) -> Refusal:
    return Refusal(413, f"a request has at most {limits.rows} rows: send fewer")
