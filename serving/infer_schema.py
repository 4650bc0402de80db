"""The infer route as OpenAPI: what /docs shows of it, and what its "Try it out" sends."""

from typing import Any

from headrace.domain.contract import Contract
from serving.limits import Limits
from serving.model import LoadedModel
from serving.outputs import output_metadata
from serving.schema import refusal_answers
from serving.tensors import DATATYPES as KNOWN

# What a client that asks is told to send for a feature; what else is taken is in `serving.infer_matrix`.
DATATYPES = {"float": "FP32", "int": "INT64", "bool": "BOOL", "category": "BYTES"}

_JSON, _BINARY = "application/json", "application/octet-stream"
_PARAMETERS = {"type": ["object", "null"], "description": "Unknown ones are ignored."}
_HEADER = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "The length of the JSON, bytes, when the inputs' binary data follows it.",
    "schema": {"type": "integer", "minimum": 0},
}


def infer_operation(model: LoadedModel, limits: Limits) -> dict[str, Any]:
    """The OpenAPI operation of the infer route."""
    answer = _answer_schema(model)
    binary = {"type": "string", "format": "binary", "description": "JSON, and after it the tensors' binary data."}
    answers = refusal_answers()
    answers["200"] = {
        "description": "The outputs asked for, all of them if none was named. Binary if one of them is.",
        "headers": {_HEADER["name"]: {"description": "The length of the JSON, bytes.", "schema": {"type": "integer"}}},
        "content": {_JSON: {"schema": answer}, _BINARY: {"schema": binary}},
    }
    body = {"schema": _body_schema(model.contract, limits), "example": infer_example(model.contract)}
    return {
        "parameters": [_HEADER],
        "requestBody": {"required": True, "content": {_JSON: body, _BINARY: {"schema": binary}}},
        "responses": answers,
    }


def infer_example(contract: Contract) -> dict[str, Any]:
    """The contract's example as a request."""
    return {
        "id": "example",
        "inputs": [
            {"name": feature.name, "shape": [1], "datatype": DATATYPES[feature.type], "data": [value]}
            for feature in contract.features
            if (value := contract.example[feature.name]) is not None
        ],
    }


def _body_schema(contract: Contract, limits: Limits) -> dict[str, Any]:
    names = ", ".join(f"{f.name} ({DATATYPES[f.type]}{', optional' if f.missing else ''})" for f in contract.features)
    size = {"type": "integer", "minimum": 1, "maximum": max(limits.rows, len(contract.features))}
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string", "description": f"One tensor for each of: {names}. Or `features`, the matrix."},
            "shape": {"type": "array", "minItems": 1, "maxItems": 2, "items": size},
            "datatype": {"type": "string", "enum": list(KNOWN)},
            "data": {"type": ["array", "null"], "description": "Flat or nested, row-major; null is missing."},
            "parameters": _PARAMETERS,
        },
    }
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "maxLength": 128, "description": "The answer repeats it."},
            "parameters": _PARAMETERS,
            "inputs": {"type": "array", "minItems": 1, "maxItems": len(contract.features), "items": tensor},
            "outputs": {"type": ["array", "null"], "items": _asked_schema(contract)},
        },
    }


def _asked_schema(contract: Contract) -> dict[str, Any]:
    names = [output["name"] for output in output_metadata(contract)]
    properties = {"name": {"type": "string", "enum": names}, "parameters": _PARAMETERS}
    return {"type": "object", "required": ["name"], "properties": properties}


def _answer_schema(model: LoadedModel) -> dict[str, Any]:
    output = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            **_asked_schema(model.contract)["properties"],
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"enum": ["FP32", "BYTES"]},
            "data": {"type": "array", "items": {"type": ["number", "string"]}},
        },
    }
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"const": model.name},
            "model_version": {"const": str(model.version)},
            "id": {"type": "string"},
            "outputs": {"type": "array", "minItems": 1, "items": output},
        },
    }
