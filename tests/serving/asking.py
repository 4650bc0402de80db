"""Requests to an ASGI application without a server, so that a test says what comes when."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from serving.app import release
from serving.blocks import ID_BYTES
from serving.desk import Desk
from serving.front import Front
from serving.limits import Limits
from serving.model import LoadedModel

ROWS = "/v1/models/flight_delay/predict"
INFER = "/v2/models/flight_delay/infer"
JSON = (b"content-type", b"application/json")
NEVER, PAUSE = "never", "pause"
GONE = {"type": "http.disconnect"}

Headers = Sequence[tuple[bytes, bytes]]


class Answered(NamedTuple):
    """All that a client sees."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1, f"{name!r} is there {len(found)} times"
        return found[0] if found else None


class Recorded(NamedTuple):
    """What a recorder was told of the rows of a request; arrays as bytes, so that NaN is equal to itself."""

    matrix: bytes
    shape: tuple[int, ...]
    predictions: bytes
    context: Any
    keys: Any


class Keeping:
    """Stands in for the recorder: keeps what it is told, and gives the same ids to the same requests."""

    def __init__(self) -> None:
        self.added: list[Recorded] = []
        self.statuses: list[int] = []

    def add(self, matrix: np.ndarray, predictions: np.ndarray, context: Any, keys: Any) -> list[str]:
        self.added.append(Recorded(matrix.tobytes(), matrix.shape, predictions.tobytes(), context, keys))
        return [f"{position:0{2 * ID_BYTES}x}" for position in range(len(matrix))]

    def answered(self, status: int, elapsed_s: float) -> None:
        assert elapsed_s >= 0
        self.statuses.append(status)

    def seal(self) -> None:
        pass

    def told(self) -> tuple[list[Recorded], list[int]]:
        """What was kept since the last time."""
        told = self.added, self.statuses
        self.added, self.statuses = [], []
        return told


def keeping_front(model: LoadedModel, limits: Limits | None = None, lanes: bool = True) -> tuple[Front, Keeping]:
    """A front with or without the fast way, and what its recorder keeps."""
    one, keeping = release(model, Desk(limits)), Keeping()
    one.service.recorder = keeping  # type: ignore[assignment]
    if not lanes:
        one.lanes = {}
    return Front(one), keeping


@dataclass
class Ways:
    """The same version behind the fast way and behind the ordinary one alone."""

    model: LoadedModel
    limits: Limits

    def __post_init__(self) -> None:
        self.fast, self._fast_kept = keeping_front(self.model, self.limits)
        self.plain, self._plain_kept = keeping_front(self.model, self.limits, lanes=False)

    async def ask(self, path: str, headers: Headers, body: Iterable[Any], **more: Any) -> Answered:
        """The answer that both ways give, for which both have to record the same."""
        parts = list(body)
        fast = await ask(self.fast, path, headers, parts, **more)
        plain = await ask(self.plain, path, headers, parts, **more)
        assert fast == plain
        assert self._fast_kept.told() == (kept := self._plain_kept.told())
        assert kept[1] in ([fast.status], []), "counted more than once"
        for front in (self.fast, self.plain):
            assert (front.service.desk.in_flight, front.release.under_way) == (0, 0)
        return fast


def ways(model: LoadedModel, inline_rows: int = 50, **limits: Any) -> Ways:
    """Both ways to a model, whatever this machine measured as so few rows that they need no thread."""
    return Ways(replace(model, inline_rows=inline_rows), Limits(**limits))


def parts(body: bytes, *cuts: int) -> list[dict[str, Any]]:
    """A body as a server gives it, cut at these positions."""
    ends = [*sorted(min(cut, len(body)) for cut in cuts), len(body)]
    starts = [0, *ends[:-1]]
    return [
        {"type": "http.request", "body": body[start:end], "more_body": position < len(ends) - 1}
        for position, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


async def ask(app: Any, path: str, headers: Headers, body: Iterable[Any], method: str = "POST") -> Answered:
    """Ask; at `NEVER` in the body the client sends no more, and stays, and at `PAUSE` it lets others go first.

    A function in the body is awaited for the part that it gives.
    """
    coming, sent = iter([*body]), []

    async def receive() -> Any:
        # As a server's: what is there is given without waiting, and the end is said again and again.
        while (message := next(coming, GONE)) in (NEVER, PAUSE):
            await (asyncio.sleep(0) if message == PAUSE else asyncio.get_running_loop().create_future())
        return await message() if callable(message) else message

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
    }
    await app(scope, receive, send)
    start, *rest = sent
    assert start["type"] == "http.response.start"
    return Answered(start["status"], list(start["headers"]), b"".join(bytes(one["body"]) for one in rest))
