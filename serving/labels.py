"""`POST /v1/models/{model}/labels`: outcomes, late and in any order, by the contract's names."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response

from headrace.domain.contract import Contract
from serving.bodies import decode, read_body
from serving.desk import Desk
from serving.keys import KEY_FORM, TIME_FORM, key_bytes, microseconds
from serving.label_log import Label
from serving.limits import Limits
from serving.refusals import Refusal, first_few, json_response

PREDICTION_ID = "prediction_id"
_PREDICTION_ID = re.compile(r"[0-9a-f]{32}")
_PROBLEMS = 5


async def take_labels(request: Request, contract: Contract, desk: Desk) -> Response:
    """Keep the labels of a request; the answer says how many, once they are on the disk."""
    try:
        with desk.place():
            if desk.labels is None:
                raise Refusal(404, "labels are not kept here: start the service with --prediction-log")
            labels = parse_labels(await read_body(request, desk.limits), contract, desk.limits)
            try:
                await anyio.to_thread.run_sync(desk.labels.append, labels)
            except BlockingIOError as busy:
                raise Refusal(503, "too many labels are being kept: try again", {"Retry-After": "1"}) from busy
            except OSError as failed:
                raise Refusal(503, "the labels could not be kept: try again later", {"Retry-After": "30"}) from failed
    except Refusal as refusal:
        return refusal.response()
    desk.families.labels.labels(contract.model).inc(len(labels))
    return json_response({"accepted": len(labels)})


def parse_labels(body: bytes, contract: Contract, limits: Limits) -> list[Label]:
    """The labels of ``{"labels": [{"prediction_id" or the row's key, label, ...}]}``.

    Raises:
        Refusal: 400 not of that form, 413 too many.
    """
    # Before decoding, as for rows.
    if body.count(b"{") + body.count(b"[") > limits.rows + 2:
        raise Refusal(413, f"a request has at most {limits.rows} labels: send fewer")
    document = decode(body)
    given = document.get("labels") if isinstance(document, dict) and len(document) == 1 else None
    if not isinstance(given, list) or not given:
        raise Refusal(400, 'the body has to be {"labels": [{...}, ...]} with at least one label, and no other key')
    labels, problems = [], []
    for position, one in enumerate(given):
        try:
            labels.append(_label(one, contract))
        except ValueError as wrong:
            problems.append(f"labels[{position}]: {wrong}")
            if len(problems) == _PROBLEMS:
                break
    if problems:
        raise Refusal(400, first_few(problems))
    return labels


def _label(given: Any, contract: Contract) -> Label:
    if not isinstance(given, dict):
        raise ValueError("has to be an object")
    names = (PREDICTION_ID, contract.rows.key, contract.rows.decision_time, contract.label.name, contract.label.time)
    unknown = next((name for name in given if name not in names), None)
    if unknown is not None:
        raise ValueError(f"{unknown[:64]!r} is none of {list(names)}")
    prediction_id, key = given.get(PREDICTION_ID), given.get(contract.rows.key)
    if (prediction_id is None) == (key is None):
        raise ValueError(f"has to have either {PREDICTION_ID!r} or {contract.rows.key!r}")
    if prediction_id is not None and not (isinstance(prediction_id, str) and _PREDICTION_ID.fullmatch(prediction_id)):
        raise ValueError(f"{PREDICTION_ID!r} must be the id of a prediction, 32 hexadecimal digits")
    if key is not None and not key_bytes(key):
        raise ValueError(f"{contract.rows.key!r} {KEY_FORM}")
    return Label(
        _VALUES[contract.task](given.get(contract.label.name), contract),
        prediction_id,
        key,
        _time(given, contract.rows.decision_time),
        _time(given, contract.label.time),
    )


def _time(given: Mapping[str, Any], name: str) -> int | None:
    found = microseconds(given.get(name))
    if found is None and given.get(name) is not None:
        raise ValueError(f"{name!r} {TIME_FORM}")
    return found


def _binary(value: Any, contract: Contract) -> float:
    if type(value) not in (int, float, bool) or value not in (0, 1):
        raise ValueError(f"{contract.label.name!r} must be 0 or 1")
    return float(value)


def _class(value: Any, contract: Contract) -> float:
    if not isinstance(value, str) or value not in contract.label.classes:
        raise ValueError(f"{contract.label.name!r} must be one of {list(contract.label.classes)}")
    return float(contract.label.classes.index(value))


def _number(value: Any, contract: Contract) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{contract.label.name!r} must be a finite number")
    return float(value)


_VALUES: Mapping[str, Callable[[Any, Contract], float]] = {
    "binary": _binary,
    "multiclass": _class,
    "regression": _number,
}
