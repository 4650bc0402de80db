"""The first that sees a request: names it, answers it itself if it is plain, and leaves every other to the app.

The web framework's routing, request and response objects cost twice as much as a prediction. A request that is plain
(a valid body of moderate length and few rows) is answered here by the same `Service.predict`; for any other the app
gets what was read, as if nothing had happened. So there is one place that says what is wrong with a request, and a test
compares the answers of both ways byte by byte.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.bodies import too_slow
from serving.context import SCOPE_KEY, START_KEY, Context, read_context
from serving.lanes import Lane, NotPlain
from serving.limits import Limits
from serving.service import Question, Service

# What a browser must not do with an answer; the pages for people say their own.
_GUARDS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_TOO_SLOW = "the body is too slow"
# A longer body takes so long to read that the time for the framework does not count.
_MOST_BYTES = 256 * 1024

RawHeaders = Iterable[tuple[bytes, bytes]]
Read = Callable[[bytes], Question]


class Release:
    """A version with the two ways to ask it.

    Attributes:
        app: the ordinary way, for every request.
        lanes: path to what reads a plain body that is posted there.
        under_way: requests that it has begun to answer and is not done with.
    """

    def __init__(self, service: Service, app: ASGIApp, lanes: Mapping[str, Lane]) -> None:
        self.service = service
        self.app = app
        self.lanes = lanes
        self.under_way = 0
        # What every answer has, besides the request's id.
        self.headers = ((b"headrace-version", b"%d" % service.model.version), *_GUARDS)


class Front:
    """An ASGI application.

    Attributes:
        release: answers new requests; those under way keep the one they began with.
    """

    def __init__(self, release: Release) -> None:
        self.put(release)

    def put(self, release: Release) -> None:
        """Let this version answer from now on."""
        self.release = release
        release.service.welcome()

    @property
    def service(self) -> Service:
        """The version that answers new requests."""
        return self.release.service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        release = self.release
        if scope["type"] != "http":
            await release.app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = dict(scope["headers"])
        context = read_context(headers)
        release.under_way += 1
        try:
            lane = release.lanes.get(scope["path"]) if scope["method"] == "POST" else None
            if lane is not None and _may_be_plain(lane, headers, scope, release):
                taken = await _plainly(release, partial(lane.read, headers), context, start, receive, send)
                if taken is None:
                    return
                receive = _again(taken, receive)
            scope[SCOPE_KEY] = context
            scope[START_KEY] = start
            await release.app(scope, receive, _with_headers(send, release, context))
        finally:
            release.under_way -= 1


def _may_be_plain(lane: Lane, headers: Mapping[bytes, bytes], scope: Scope, release: Release) -> bool:
    """Whether nothing is wrong with a request before its body, which is what the ordinary way looks at first."""
    length = headers.get(b"content-length", b"")
    desk = release.service.desk
    return (
        not desk.full
        and len(headers) == len(scope["headers"])
        and length.isdigit()
        and len(length) < 9
        and int(length) <= min(desk.limits.body_bytes, _MOST_BYTES)
        and lane.takes(headers)
    )


async def _plainly(
    release: Release, read: Read, context: Context, start: float, receive: Receive, send: Send
) -> list[Message] | None:
    """Answer a plain request; if it turns out to be another, give back what was taken of it."""
    service = release.service
    service.desk.in_flight += 1
    try:
        taken = await _arrival(receive, service.desk.limits)
        try:
            question = read(_whole(taken))
        except Exception:  # whatever it is, the ordinary way meets it too, and says what it is
            return taken
        answer = service.predict(question, context)
        status, body, headers = 200, answer.body, answer.raw_headers() + _own_headers(release, context)
    except Exception as problem:
        response = service.refused(problem, context)
        status, body = response.status_code, bytes(response.body)
        headers = _all_headers(response.raw_headers, release, context)
    finally:
        service.desk.in_flight -= 1
    service.recorder.answered(status, time.perf_counter() - start)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return None


def _whole(taken: list[Message]) -> bytes:
    last = taken[-1]
    if last["type"] != "http.request" or last.get("more_body"):
        raise NotPlain
    body: bytes = last.get("body", b"") if len(taken) == 1 else b"".join(one.get("body", b"") for one in taken)
    return body


async def _arrival(receive: Receive, limits: Limits) -> list[Message]:
    """The body in the parts in which it comes; the last one is not its end if it is too long, or broke off.

    Raises:
        Refusal: 408 it did not come in time.
    """
    # Mostly all of it is here already. To see that costs a tenth of a timer.
    steps = receive().__await__()
    try:
        waits_for = next(steps)
    except StopIteration as here:
        taken = [here.value]
        if not _goes_on(taken):
            return taken
        first = receive()
    else:
        taken = []
        first = _Begun(steps, waits_for)
    # What asyncio.timeout does, at a third of its cost.
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that awaits runs in one
    timer = asyncio.get_running_loop().call_later(limits.body_timeout_s, task.cancel, _TOO_SLOW)
    try:
        taken.append(await first)
        while _goes_on(taken):
            taken.append(await receive())
        return taken
    except asyncio.CancelledError as cancelled:
        if cancelled.args != (_TOO_SLOW,) or task.uncancel():
            raise
        raise too_slow(limits) from cancelled
    finally:
        timer.cancel()


def _goes_on(taken: list[Message]) -> bool:
    # Counted, though the length was declared: not every server holds a client to it.
    return bool(taken[-1].get("more_body")) and sum(len(one.get("body", b"")) for one in taken) <= _MOST_BYTES


class _Begun:
    """What `await` does with a coroutine from its second step on."""

    def __init__(self, steps: Generator[Any, Any, Message], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Message]:
        waits_for = self._waits_for
        while True:
            step: Callable[[], Any]
            try:
                step = partial(self._steps.send, (yield waits_for))
            except BaseException as thrown:  # a cancellation is the coroutine's to see
                step = partial(self._steps.throw, thrown)
            try:
                waits_for = step()
            except StopIteration as done:
                return done.value


def _again(taken: list[Message], receive: Receive) -> Receive:
    """A `receive` that gives what was taken already, and then what comes after it."""
    taken.reverse()

    async def receive_again() -> Message:
        return taken.pop() if taken else await receive()

    return receive_again


def _own_headers(release: Release, context: Context) -> list[tuple[bytes, bytes]]:
    headers = [(b"x-request-id", context.request_id), *release.headers]
    if release.service.desk.draining:
        # A client that kept the connection would find it closed under its next request.
        headers.append((b"connection", b"close"))
    return headers


def _all_headers(said: RawHeaders, release: Release, context: Context) -> list[tuple[bytes, bytes]]:
    # An answer's own guard counts: the pages for people need another one. So does its wish to close.
    names = {name for name, _ in said}
    return [*said, *(header for header in _own_headers(release, context) if header[0] not in names)]


def _with_headers(send: Send, release: Release, context: Context) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = _all_headers(message["headers"], release, context)
        await send(message)

    return send_with_headers
