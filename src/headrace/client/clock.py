"""Time and chance, as one object, so that a test can be the clock."""

import asyncio
import random
import time
from datetime import UTC, datetime


class Clock:
    """What the client asks of time. A test gives a subclass that never waits."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def now(self) -> datetime:
        """The time of day (UTC), to compare with the date in a Retry-After."""
        return datetime.now(UTC)

    def jitter(self, most_s: float) -> float:
        """Any number of seconds from 0 to `most_s`, all equally likely."""
        return random.uniform(0, most_s)  # noqa: S311 - spreads requests, guards nothing

    def sleep(self, seconds: float) -> None:
        """Wait in this thread."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Wait in this task."""
        await asyncio.sleep(seconds)
