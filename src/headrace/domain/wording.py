"""Numbers and times as people read them, the same in a verdict's sentences and in its report."""

from collections.abc import Callable
from datetime import UTC, datetime

from headrace.domain.resampling import Interval

Telling = Callable[[float | None], str]
_NOTHING = "no value"


def told(number: float | None) -> str:
    """At most four decimals, whole thousands with commas, tiny numbers in two digits; "no value" for None."""
    if number is None:
        return _NOTHING
    if abs(number) >= 1000 or number == 0:
        return f"{number:,.0f}"
    if abs(number) < 0.001:
        return f"{number:.2g}"
    return f"{number:.4f}".rstrip("0").rstrip(".") if abs(number) < 10 else f"{number:.4g}"


def aligned(number: float | None) -> str:
    """As `told`, but always with four decimals below ten, for columns."""
    return f"{number:.4f}" if number is not None and abs(number) < 10 else told(number)


def signed(number: float | None, how: Telling = told) -> str:
    """A number with its sign, if it is not zero."""
    return how(number) if number is None or not number > 0 else f"+{how(number)}"


def ranged(found: Interval | None, how: Telling = told) -> str:
    """A value and its interval, ``0.7672 (0.7611 to 0.7731)``."""
    return f"{how(found.value)} ({how(found.low)} to {how(found.high)})" if found else _NOTHING


def minute(moment: datetime | None) -> str:
    """A time in UTC, to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}" if moment else "nobody knows when"
