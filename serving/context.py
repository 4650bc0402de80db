"""What a request says about itself in its headers."""

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from headrace.telemetry import ROLE_HEADER

# The codes stand in the prediction log: append, never reorder.
ROLES = ("direct", "stable", "canary", "shadow", "previous")
_ROLE = ROLE_HEADER.lower().encode()
_ROLE_CODES = {role.encode(): code for code, role in enumerate(ROLES)}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# https://www.w3.org/TR/trace-context/#traceparent-header: version, trace id, parent id, flags.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")

# Where the context of a request is in its ASGI scope.
SCOPE_KEY = "headrace.context"


class Context(NamedTuple):
    """A request as logs name it.

    Attributes:
        request_id: the client's, if it is short and plain, else a new one.
        role: position in `ROLES`: as what the proxy chose this version; "direct" without a proxy.
        trace_id: of the W3C trace that the request is part of, 32 hexadecimal digits; empty without one.
    """

    request_id: bytes
    role: int = 0
    trace_id: bytes = b""


def read_context(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    """The context of a request with these headers, whose names are in lower case."""
    request_id = trace_id = b""
    role = 0
    for name, value in headers:
        if name == b"x-request-id":
            request_id = value
        elif name == _ROLE:
            role = _ROLE_CODES.get(value, 0)
        elif name == b"traceparent":
            match = _TRACEPARENT.fullmatch(value)
            trace_id = match[1] if match else b""
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = os.urandom(16).hex().encode()
    return Context(request_id, role, trace_id)
