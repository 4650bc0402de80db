"""The contract as OpenAPI: what /docs shows of the predict route, and what its "Try it out" sends."""

from typing import Any

import numpy as np

from headrace.domain.contract import Contract, Feature
from serving.limits import Limits
from serving.model import LoadedModel

_JSON = "application/json"
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_ID = {"type": "string", "description": "Names this prediction: keep it to join the label later.", "minLength": 1}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "What is wrong and what to do."}},
}
_REFUSALS = {
    400: "The body is not of the contract's form.",
    408: "The body did not arrive in time.",
    413: "Too many bytes or rows.",
    415: "The body is of another media type.",
    500: "The model failed, or its answer is not a finite number.",
    503: "Too many requests are under way: try again after `Retry-After` seconds.",
}


def predict_operation(model: LoadedModel, limits: Limits) -> dict[str, Any]:
    """The OpenAPI operation of the predict route."""
    contract = model.contract
    body = {
        "type": "object",
        "additionalProperties": False,
        "required": ["rows"],
        "properties": {
            "rows": {"type": "array", "minItems": 1, "maxItems": limits.rows, "items": row_schema(contract)}
        },
    }
    answers = refusal_answers()
    answers["200"] = {
        "description": "One prediction for each row, in the order of the rows.",
        "content": {_JSON: {"schema": _answer_schema(model)}},
    }
    example = {"rows": [dict(contract.example)]}
    return {
        "requestBody": {"required": True, "content": {_JSON: {"schema": body, "example": example}}},
        "responses": answers,
    }


def refusal_answers() -> dict[str, Any]:
    """What a request for predictions is answered with when it gets none, by status."""
    return {
        str(status): {"description": text, "content": {_JSON: {"schema": _ERROR}}} for status, text in _REFUSALS.items()
    }


def row_schema(contract: Contract) -> dict[str, Any]:
    """The JSON Schema of one row."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [feature.name for feature in contract.features if not feature.missing],
        "properties": {feature.name: _feature_schema(feature) for feature in contract.features},
    }


def _feature_schema(feature: Feature) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": _description(feature)}
    match feature.type:
        case "float":
            # The range is not a limit: a value outside it is answered and counted.
            schema |= {"type": "number", "minimum": -_FLOAT32_MAX, "maximum": _FLOAT32_MAX}
        case "int":
            schema |= {"type": "integer", "minimum": -_FLOAT32_MAX, "maximum": _FLOAT32_MAX}
        case "bool":
            schema |= {"type": "boolean"}
        case "category" if feature.missing:
            schema |= {"type": "string", "examples": list(feature.values)}
        case "category":
            schema |= {"type": "string", "enum": list(feature.values)}
    if feature.missing:
        schema["type"] = [schema["type"], "null"]
    return schema


def _description(feature: Feature) -> str:
    parts = [feature.description.rstrip(". ")]
    if feature.unit:
        parts.append(f"Unit: {feature.unit}")
    if feature.range:
        parts.append(f"Plausible from {feature.range[0]:g} to {feature.range[1]:g}; values outside are counted")
    if feature.type == "category" and feature.missing:
        parts.append(f"One of {', '.join(feature.values)}; any other counts as missing")
    if feature.missing:
        parts.append("May be null or left out")
    return ". ".join(parts) + "."


def _answer_schema(model: LoadedModel) -> dict[str, Any]:
    value = _value_schema(model.contract)
    prediction = {"type": "object", "required": ["id", *value], "properties": {"id": _ID, **value}}
    return {
        "type": "object",
        "required": ["model", "version", "predictions"],
        "properties": {
            "model": {"const": model.name},
            "version": {"const": model.version},
            "predictions": {"type": "array", "items": prediction},
        },
    }


def _value_schema(contract: Contract) -> dict[str, Any]:
    label = contract.label
    match contract.task:
        case "binary":
            return {
                "probability": {"type": "number", "description": f"Probability of {label.name}: {label.description}"}
            }
        case "regression":
            unit = f" Unit: {label.unit}." if label.unit else ""
            return {"value": {"type": "number", "description": f"{label.description}{unit}"}}
        case "multiclass":
            classes = {name: {"type": "number"} for name in label.classes}
            return {
                "probabilities": {
                    "type": "object",
                    "description": f"Probability of each class. {label.description}",
                    "required": list(classes),
                    "properties": classes,
                }
            }
