"""Whether another try is worth it, and when."""

import math
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from headrace.client.clock import Clock
from headrace.client.exchange import Answer, NoAnswer, Outcome
from headrace.errors import UsageError

# Too many requests, and no room for now: the answers that say that nothing was done and that it may work later.
_LATER = frozenset({429, 503})
_FIRST_S = 0.1
_MOST_S = 5.0
# A service that asks for an hour gets a visit earlier, or the deadline ends it.
_RETRY_AFTER_MOST_S = 30.0


@dataclass(frozen=True)
class Patience:
    """How long to wait, and how often to try.

    Attributes:
        timeout_s: the longest wait for a connection, and for each piece of an answer.
        retries: how many times a request is sent again.
        deadline_s: the longest that a call takes, with its batches and its pauses; None is without end.

    Raises:
        UsageError: a number makes no sense.
    """

    timeout_s: float
    retries: int
    deadline_s: float | None

    def __post_init__(self) -> None:
        for name in ("timeout_s", "deadline_s"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < math.inf:
                raise UsageError(f"{name} is {seconds!r}: give a number of seconds above 0")
        if self.retries < 0:
            raise UsageError(f"retries is {self.retries!r}: give 0 or more")

    def until(self, clock: Clock) -> float:
        """When, by the monotonic clock, a call that begins now has to be over."""
        return math.inf if self.deadline_s is None else clock.monotonic() + self.deadline_s


def worth_another_try(outcome: Outcome) -> bool:
    """Whether the same request may do better: no answer began, or the answer was 429 or 503."""
    match outcome:
        case NoAnswer():
            return outcome.again
        case Answer():
            return outcome.status in _LATER


def pause_s(outcome: Outcome, tries: int, clock: Clock) -> float:
    """Seconds to wait before the next try, after `tries` of them.

    Exponential backoff with full jitter: anything from nothing to 0.1 s, doubled with each try, at most 5 s. What a
    Retry-After asks for comes on top, because those who were turned away together must not come back together.
    """
    most_s = min(_MOST_S, _FIRST_S * 2.0 ** min(tries - 1, 30))
    return _asked_for_s(outcome, clock) + clock.jitter(most_s)


def _asked_for_s(outcome: Outcome, clock: Clock) -> float:
    if not isinstance(outcome, Answer):
        return 0.0
    text = outcome.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _RETRY_AFTER_MOST_S)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    # "-0000" parses as a time without a zone, and means UTC.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - clock.now()).total_seconds(), 0.0), _RETRY_AFTER_MOST_S)
