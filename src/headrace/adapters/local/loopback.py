"""Questions to our own processes, over loopback: no proxy of the environment, no certificates, a deadline."""

import http.client
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

_LARGEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


def get(url: str, timeout_s: float) -> Answer | None:
    """GET a URL; None when there is no whole answer within about `timeout_s`."""
    parts = urlsplit(url)
    deadline = time.monotonic() + timeout_s
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}")
        response = connection.getresponse()
        body = bytearray()
        # The socket's timeout is one read's: an answer that drips has to end as well.
        while piece := response.read1(65536):
            body += piece
            if time.monotonic() > deadline or len(body) > _LARGEST_BYTES:
                return None
        # What is left of the length that was declared: read1 takes a connection that broke off for the end.
        return None if response.length else Answer(response.status, bytes(body))
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
