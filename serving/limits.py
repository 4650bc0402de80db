"""What one request may ask for, and how many may ask at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The flags of `python -m serving` set these.

    Attributes:
        body_bytes: largest request body; a larger one is answered 413 before it is read whole.
        rows: most rows, or labels, in one request; more are answered 413.
        in_flight: requests that may be under way at once; one more is answered 503.
        body_timeout_s: time that a client has to send its body, so that a slow one gives its place back (408).
    """

    body_bytes: int = 2 * 1024 * 1024
    rows: int = 10_000
    in_flight: int = 64
    body_timeout_s: float = 10.0
