"""What a request says about itself in its headers."""

import random
import re
from collections.abc import Mapping
from typing import NamedTuple

from headrace.telemetry import ROLE_HEADER

# The codes stand in the prediction log: append, never reorder.
ROLES = ("direct", "stable", "canary", "shadow", "previous")
_ROLE = ROLE_HEADER.lower().encode()
_ROLE_CODES = {role.encode(): code for code, role in enumerate(ROLES)}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# https://www.w3.org/TR/trace-context/#traceparent-header: version, trace id, parent id, flags. What a later version
# adds comes after those; in version 00 nothing does.
_TRACEPARENT = re.compile(
    rb"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)

# Where the context of a request, and the moment at which it came, are in its ASGI scope.
SCOPE_KEY = "headrace.context"
START_KEY = "headrace.start"


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


def read_context(headers: Mapping[bytes, bytes]) -> Context:
    """The context of a request with these headers, whose names are in lower case."""
    request_id = headers.get(b"x-request-id", b"")
    if not _REQUEST_ID.fullmatch(request_id):
        # A name, not a secret, at half the time of os.urandom. A forked process is seeded anew.
        request_id = b"%032x" % random.getrandbits(128)
    role = headers.get(_ROLE)
    parent = headers.get(b"traceparent")
    match = None if parent is None else _TRACEPARENT.fullmatch(parent)
    return Context(request_id, 0 if role is None else _ROLE_CODES.get(role, 0), match[1] if match else b"")
