"""The contract as OpenAPI: what /docs shows of the predict route, and what its "Try it out" sends."""

from typing import Any

import numpy as np

from headrace.domain.contract import Contract, Feature
from serving.limits import Limits
from serving.model import LoadedModel

_JSON = "application/json"
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_ID = {"type": "string", "description": "Names this prediction: keep it to join the label later.", "minLength": 1}
_KEY = {
    "type": ["string", "null"],
    "minLength": 1,
    "maxLength": 64,
    # What is more than 64 bytes in UTF-8, or does not print, is refused too; a pattern can't say that everywhere alike.
    "pattern": "^[ -~]+$",
    "description": "A key, at most 64 bytes.",
}
_TIME = {"type": ["string", "null"], "format": "date-time", "description": "A time with its zone."}
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


def predict_operation(model: LoadedModel, limits: Limits, completes: bool) -> dict[str, Any]:
    """The OpenAPI operation of the predict route; with `completes`, features of views may be left out."""
    contract = model.contract
    body = {
        "type": "object",
        "additionalProperties": False,
        "required": ["rows"],
        "properties": {
            "rows": {"type": "array", "minItems": 1, "maxItems": limits.rows, "items": row_schema(contract, completes)}
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


def row_schema(contract: Contract, completes: bool = False) -> dict[str, Any]:
    """The JSON Schema of one row; with `completes`, features of views may be left out."""
    features = contract.features
    required = [f.name for f in features if not f.missing and not (completes and f.view is not None)]
    properties = {feature.name: _feature_schema(feature) for feature in features}
    extras = {name: _KEY if kind == "key" else _TIME for name, kind in contract.row_extras.items()}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties | extras,
    }


def labels_operation(contract: Contract, limits: Limits) -> dict[str, Any]:
    """The OpenAPI operation of the labels route."""
    label = contract.label
    value: dict[str, Any] = {"description": f"{label.description.rstrip('. ')}."}
    match contract.task:
        case "binary":
            value |= {"enum": [0, 1]}
        case "multiclass":
            value |= {"enum": list(label.classes)}
        case "regression":
            value |= {"type": "number"}
    item = {
        "type": "object",
        "additionalProperties": False,
        "required": [label.name],
        "properties": {
            "prediction_id": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "The prediction's `id`."},
            contract.rows.key: {**_KEY, "type": "string", "description": "Or, instead of that, the row's own key."},
            contract.rows.decision_time: {**_TIME, "description": "With the key: the moment of the decision."},
            label.name: value,
            label.time: {**_TIME, "description": "When it became known."},
        },
        "oneOf": [{"required": ["prediction_id"]}, {"required": [contract.rows.key]}],
    }
    body = {
        "type": "object",
        "additionalProperties": False,
        "required": ["labels"],
        "properties": {"labels": {"type": "array", "minItems": 1, "maxItems": limits.rows, "items": item}},
    }
    known = 0 if contract.task == "regression" else value["enum"][0]
    example = {"labels": [{contract.rows.key: "an example", label.name: known}]}
    accepted = {"type": "object", "required": ["accepted"], "properties": {"accepted": {"type": "integer"}}}
    answers = {
        "200": {"description": "How many labels are kept now.", "content": {_JSON: {"schema": accepted}}},
        "404": {"description": "This service keeps none.", "content": {_JSON: {"schema": _ERROR}}},
    }
    return {
        "requestBody": {"required": True, "content": {_JSON: {"schema": body, "example": example}}},
        "responses": refusal_answers() | answers,
        "description": "Late and in any order. Sending one again changes nothing; another for the same replaces it.",
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
