"""Questions to our own processes, over loopback: no proxy of the environment, no certificates, a deadline."""

import http.client
import time
from urllib.parse import urlsplit

from headrace.adapters.answer import Answer, read


def get(url: str, timeout_s: float) -> Answer | None:
    """GET a URL; None when there is no whole answer within about `timeout_s`."""
    parts = urlsplit(url)
    deadline = time.monotonic() + timeout_s
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}")
        return read(connection.getresponse(), deadline)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
