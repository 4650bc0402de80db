"""One request and what came of it, as values: neither client decides anything, and nothing here does I/O."""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """What to ask.

    Attributes:
        url: where, with the password that the address may have.
        shown: the same without it, for messages.
    """

    method: str
    url: str
    shown: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None


@dataclass(frozen=True)
class Send:
    """An order to send a request.

    Attributes:
        pause_s: how long to wait before.
        timeout_s: the longest wait for a connection, and for each piece of the answer.
        until: when, by the monotonic clock, an answer is no longer wanted.
    """

    request: Request
    pause_s: float
    timeout_s: float
    until: float


@dataclass(frozen=True)
class Answer:
    """An answer, read whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class NoAnswer:
    """There is no answer, or only a part of one.

    Attributes:
        reason: in words.
        again: the connection failed before anything of an answer came, so that another try may do better.
        problem: what httpx raised.
    """

    reason: str
    again: bool
    problem: Exception | None = None


Outcome = Answer | NoAnswer

# A method of both clients: it yields what is to be sent, gets what came of it, and returns what the method returns.
Talk = Generator[Send, Outcome, T]


class Reading:
    """An answer as its pieces come.

    The timeouts of httpx are for each piece. A service that trickles would be waited for without end, so the deadline
    is looked at between the pieces.
    """

    def __init__(self, until: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._until = until
        self._monotonic = monotonic
        self._pieces: list[bytes] = []

    def take(self, piece: bytes) -> bool:
        """Keep a piece; False when it came too late."""
        self._pieces.append(piece)
        return self._monotonic() < self._until

    def answer(self, response: httpx.Response) -> Answer:
        """All of it."""
        return Answer(response.status_code, response.headers, b"".join(self._pieces))


TOO_LATE = NoAnswer("the answer was still coming in at the deadline", again=False)


def refused(problem: httpx.RequestError) -> NoAnswer:
    """What it means that httpx gave up before an answer began."""
    # A read that timed out is not tried again: the service has the request, and a second one would slow it further.
    again = isinstance(problem, httpx.NetworkError | httpx.ConnectTimeout | httpx.RemoteProtocolError)
    return NoAnswer(_words(problem), again, problem)


def broken_off(problem: httpx.RequestError) -> NoAnswer:
    """What it means that httpx gave up in the middle of an answer."""
    return NoAnswer(f"the answer broke off: {_words(problem)}", again=False, problem=problem)


def _words(problem: httpx.RequestError) -> str:
    match problem:
        case httpx.ReadTimeout():
            return "nothing came in time: give it longer with timeout_s, or send fewer rows with batch_rows"
        case httpx.PoolTimeout():
            return "all connections of this client are in use"
    # Timeouts of httpx often have no words of their own.
    return str(problem) or type(problem).__name__
