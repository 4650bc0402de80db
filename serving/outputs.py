"""The output tensors: which there are, which were asked for, and how they are said."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from headrace.domain.contract import Contract
from serving.answers import Answer
from serving.model import LoadedModel, Predictions
from serving.refusals import Refusal

# Extensions that Triton has and we have not: their parameters ask for another answer, so they can't be ignored.
_UNSUPPORTED = ("classification", "shared_memory_region")
_LENGTH = struct.Struct("<I")
_IDS = "prediction_id"


@dataclass(frozen=True)
class Asked:
    """One output that the answer has to have."""

    name: str
    is_binary: bool


def output_metadata(contract: Contract) -> list[dict[str, Any]]:
    """What there is to ask for, in the order of an answer to which nothing else was said.

    A classifier has `probabilities`, one column a class; of a binary one the second column is the label's. The ids
    name the predictions, as in the rows API.
    """
    match contract.task:
        case "binary":
            predicted = {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}
        case "multiclass":
            predicted = {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(contract.label.classes)]}
        case "regression":
            predicted = {"name": "prediction", "datatype": "FP32", "shape": [-1, 1]}
    return [predicted, {"name": _IDS, "datatype": "BYTES", "shape": [-1, 1]}]


def asked_outputs(given: Any, contract: Contract, binary_by_default: bool) -> tuple[Asked, ...]:
    """The outputs that a request asks for; all of them when it does not say.

    Raises:
        Refusal: 400 there is no such output, or it can't be sent that way.
    """
    names = [output["name"] for output in output_metadata(contract)]
    if given is None or given == []:
        return tuple(Asked(name, binary_by_default) for name in names)
    if not isinstance(given, list) or len(given) > len(names):
        raise Refusal(400, f"'outputs' has to be a list of different ones of {names}")
    asked: dict[str, Asked] = {}
    for position, output in enumerate(given):
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str) or name not in names or name in asked:
            raise Refusal(400, f"outputs[{position}] has to name one of {names}, each at most once")
        parameters = parameters_of(output, f"output {name!r}")
        asked[name] = Asked(name, flag(parameters, "binary_data", binary_by_default))
    return tuple(asked.values())


def parameters_of(holder: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """The parameters of a request, an input or an output; those that we do not know are ignored.

    Raises:
        Refusal: 400 they are not an object, or ask for an extension that we have not.
    """
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise Refusal(400, f"the parameters of {what} have to be an object")
    for name in _UNSUPPORTED:
        if name in parameters:
            raise Refusal(400, f"{what} has the parameter {name!r}, of an extension that this service does not have")
    return parameters


def flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    """A parameter that is true or false.

    Raises:
        Refusal: 400 it is something else.
    """
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Refusal(400, f"the parameter {name!r} has to be true or false")
    return value


def infer_answer(
    model: LoadedModel, predictions: Predictions, ids: Sequence[str], asked: tuple[Asked, ...], request_id: str | None
) -> Answer:
    """The answer: JSON, and after it the data of the outputs that were asked for in binary, in their order."""
    outputs: list[dict[str, Any]] = []
    blocks: list[bytes] = []
    metadata = {output["name"]: output for output in output_metadata(model.contract)}
    for one in asked:
        output = metadata[one.name] | {"shape": [len(predictions), metadata[one.name]["shape"][1]]}
        values = ids if one.name == _IDS else _matrix(model.contract, predictions)
        if one.is_binary:
            blocks.append(_raw(values))
            output["parameters"] = {"binary_data_size": len(blocks[-1])}
        else:
            output["data"] = values.ravel().tolist() if isinstance(values, np.ndarray) else values
        outputs.append(output)
    answer = {"model_name": model.name, "model_version": str(model.version), "outputs": outputs}
    if request_id is not None:
        answer["id"] = request_id
    text = orjson.dumps(answer)
    if not blocks:
        return Answer(text)
    length = ("Inference-Header-Content-Length", str(len(text)))
    return Answer(b"".join((text, *blocks)), "application/octet-stream", (length,))


def _matrix(contract: Contract, predictions: Predictions) -> Predictions:
    match contract.task:
        case "binary":
            both = np.empty((len(predictions), 2), dtype=np.float32)
            np.subtract(1, predictions, out=both[:, 0])
            both[:, 1] = predictions
            return both
        case "multiclass":
            return predictions
        case "regression":
            return predictions.reshape(-1, 1)


def _raw(values: Predictions | Sequence[str]) -> bytes:
    if isinstance(values, np.ndarray):
        return values.astype("<f4", copy=False).tobytes()
    return b"".join(_LENGTH.pack(len(value)) + value.encode() for value in values)
