"""A request's body to rows, with bounds on size, time and depth."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from serving.limits import Limits
from serving.refusals import Refusal

Row = dict[str, Any]


async def read_body(request: Request, limits: Limits, media_types: Sequence[str] = ("application/json",)) -> bytes:
    """Read the body, at most `limits.body_bytes` of it.

    Args:
        request: whose body it is.
        limits: of its size and time.
        media_types: what it may be sent as; "" is without saying.

    Raises:
        Refusal: 415 another type, 413 too long, 408 too slow, 400 broken off.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in media_types:
        raise Refusal(415, f"send the body as {' or '.join(filter(None, media_types))}")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refusal(415, "send the body without content encoding")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limits.body_bytes:
        raise _too_long(limits)
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            return await _read_bounded(request, limits)
    except TimeoutError as slow:
        raise too_slow(limits) from slow
    except ClientDisconnect as gone:
        raise Refusal(400, "the body broke off", _CLOSE) from gone


# What is left of a body that was given up on must not be taken for the next request.
_CLOSE = {"Connection": "close"}


async def _read_bounded(request: Request, limits: Limits) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        # Counted as well as declared: a chunked body declares nothing.
        if len(body) + len(chunk) > limits.body_bytes:
            raise _too_long(limits)
        body += chunk
    return bytes(body)


def too_slow(limits: Limits) -> Refusal:
    """The refusal of a body that did not arrive in time."""
    return Refusal(408, f"the body did not arrive within {limits.body_timeout_s:g} s", _CLOSE)


def _too_long(limits: Limits) -> Refusal:
    return Refusal(413, f"a body has at most {limits.body_bytes} bytes: send fewer rows at a time")


def parse_rows(body: bytes, limits: Limits) -> list[Row]:
    """The rows of ``{"rows": [{feature: value}]}``.

    NaN, Infinity, numbers beyond a double, lone surrogates and depths beyond 1024 are not JSON here. Of two equal keys
    the last counts, as RFC 8259 allows.

    Raises:
        Refusal: 400 not of that form, 413 too many rows.
    """
    if body.count(b"{") + body.count(b"[") > 2 * limits.rows + 2:
        # Before decoding: half a million empty lists fit in 2 MiB and take a tenth of a second to make and forget.
        raise _too_many(limits)
    document = decode(body)
    if not isinstance(document, dict) or document.keys() != {"rows"}:
        raise Refusal(400, 'the body has to be {"rows": [{feature: value, ...}, ...]}, with no other key')
    rows = document["rows"]
    if not isinstance(rows, list) or not rows:
        raise Refusal(400, "'rows' has to be a list of at least one row")
    if len(rows) > limits.rows:
        raise _too_many(limits)
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            raise Refusal(400, f"rows[{position}] has to be an object: feature to value")
    return rows


def _too_many(limits: Limits) -> Refusal:
    return Refusal(413, f"a request has at most {limits.rows} rows, without lists or objects in them: send fewer")


def decode(body: bytes) -> Any:
    """JSON to values; NaN and Infinity are not JSON.

    Raises:
        Refusal: 400 it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as broken:
        raise Refusal(400, f"the body is not JSON: line {broken.lineno}, column {broken.colno}") from broken
