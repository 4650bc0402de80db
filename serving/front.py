"""The first that sees a request: names it, answers it itself if it is plain, and leaves every other to the app.

The web framework's routing, request and response objects cost twice as much as a prediction. A request that is plain
(a valid body that has arrived, of few rows) is answered here by the same `Service.predict`; for any other the app gets
what was read, as if nothing had happened. So there is one place that says what is wrong with a request, and a test
compares the answers of both ways byte by byte.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.bodies import too_slow
from serving.context import SCOPE_KEY, Context, read_context
from serving.lanes import NotPlain
from serving.limits import Limits
from serving.service import Question, Service

# What a browser must not do with an answer; the pages for people say their own.
_GUARDS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_TOO_SLOW = "the body is too slow"
# A larger body takes so long to read that the time for the framework does not count.
_MOST_BYTES = 256 * 1024

Headers = Mapping[bytes, bytes]
Lane = Callable[[Headers, bytes], Question]


class Release:
    """A version with the two ways to ask it.

    Attributes:
        app: the ordinary way, for every request.
        lanes: path to what reads a plain body that is posted there, and raises for another.
    """

    def __init__(self, service: Service, app: ASGIApp, lanes: Mapping[str, Lane]) -> None:
        self.service = service
        self.app = app
        self.lanes = lanes
        # What every answer has, besides the request's id.
        self.headers = ((b"headrace-version", b"%d" % service.model.version), *_GUARDS)


class Front:
    """An ASGI application. `release` may be replaced at any time; requests under way keep the one they began with."""

    def __init__(self, release: Release) -> None:
        self.release = release

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
        context = read_context(scope["headers"])
        lane = release.lanes.get(scope["path"]) if scope["method"] == "POST" else None
        if lane is not None and not release.service.desk.full:
            answered, receive = await _plainly(release, lane, scope, context, receive, send)
            if answered:
                return
        scope[SCOPE_KEY] = context
        await release.app(scope, receive, _with_headers(send, release, context))


async def _plainly(
    release: Release, lane: Lane, scope: Scope, context: Context, receive: Receive, send: Send
) -> tuple[bool, Receive]:
    """Answer a plain request; if it is another, say so, with the `receive` that gives what was read of it."""
    start = time.perf_counter()
    service = release.service
    headers = dict(scope["headers"])
    if len(headers) != len(scope["headers"]):
        return False, receive
    service.desk.in_flight += 1
    try:
        message = await _first(receive, service.desk.limits)
        try:
            question = lane(headers, _whole_body(message, service.desk.limits))
        except Exception:  # whatever it is, the ordinary way meets it too, and says what it is
            return False, _again(message, receive)
        answer = service.predict(question, context)
    except Exception as problem:
        response = service.refused(problem, context)
        await response(scope, receive, _with_headers(send, release, context))
        service.recorder.answered(response.status_code, time.perf_counter() - start)
        return True, receive
    finally:
        service.desk.in_flight -= 1
    raw = answer.raw_headers() + _own_headers(release, context)
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    await send({"type": "http.response.body", "body": answer.body})
    service.recorder.answered(200, time.perf_counter() - start)
    return True, receive


async def _first(receive: Receive, limits: Limits) -> Message:
    """The first part of the body, which mostly is here already and all of it.

    Raises:
        Refusal: 408 it did not come in time.
    """
    # What asyncio.timeout does, at a third of its cost.
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that awaits runs in one
    timer = asyncio.get_running_loop().call_later(limits.body_timeout_s, _give_up, task)
    try:
        return await receive()
    except asyncio.CancelledError as cancelled:
        if cancelled.args != (_TOO_SLOW,):
            raise
        task.uncancel()
        raise too_slow(limits) from cancelled
    finally:
        timer.cancel()


def _give_up(task: "asyncio.Task[None]") -> None:
    task.cancel(_TOO_SLOW)


def _whole_body(message: Message, limits: Limits) -> bytes:
    body: bytes = message.get("body", b"")
    if message["type"] != "http.request" or message.get("more_body") or len(body) > min(limits.body_bytes, _MOST_BYTES):
        raise NotPlain
    return body


def _again(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives a message that was taken already, and then what comes after it."""
    taken = [message]

    async def receive_again() -> Message:
        return taken.pop() if taken else await receive()

    return receive_again


def _own_headers(release: Release, context: Context) -> list[tuple[bytes, bytes]]:
    headers = [(b"x-request-id", context.request_id), *release.headers]
    if release.service.desk.draining:
        # A client that kept the connection would find it closed under its next request.
        headers.append((b"connection", b"close"))
    return headers


def _with_headers(send: Send, release: Release, context: Context) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            # An answer's own guard counts: the pages for people need another one. So does its wish to close.
            said = {name for name, _ in message["headers"]}
            own = [header for header in _own_headers(release, context) if header[0] not in said]
            message["headers"] = [*message["headers"], *own]
        await send(message)

    return send_with_headers
