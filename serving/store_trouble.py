"""Says in the log what is wrong with the online store, and that it is over, but not with every request."""

import logging
import time

_log = logging.getLogger("headrace.serving")

SAY_AGAIN_S = 10.0
"""How often the same trouble is logged at most."""


class Trouble:
    """What was last said about a store.

    Args:
        store: its name in the log; without a password.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._why: str | None = None
        self._said_at = 0.0

    def say(self, why: str) -> None:
        """It can't be read, or not all of it."""
        now = time.monotonic()
        if why != self._why or now - self._said_at >= SAY_AGAIN_S:
            self._why, self._said_at = why, now
            _log.warning("online store not read", extra={"fields": {"store": self._store, "why": why}})

    def over(self) -> None:
        """It was read."""
        if self._why is not None and time.monotonic() - self._said_at >= SAY_AGAIN_S:
            self._why = None
            _log.info("online store read again", extra={"fields": {"store": self._store}})
