"""An HTTP answer, read whole and within a deadline."""

import http.client
import time
from dataclasses import dataclass

_LARGEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


def read(response: http.client.HTTPResponse, deadline: float) -> Answer | None:
    """All of an answer; None when it breaks off, is far too long, or not here at `deadline` (`time.monotonic()`)."""
    body = bytearray()
    # The socket's timeout is one read's: an answer that drips has to end as well.
    while piece := response.read1(65536):
        body += piece
        if time.monotonic() > deadline or len(body) > _LARGEST_BYTES:
            return None
    # What is left of the length that was declared: read1 takes a connection that broke off for the end.
    return None if response.length else Answer(response.status, bytes(body))
