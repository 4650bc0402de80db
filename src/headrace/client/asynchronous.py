"""The client for asyncio programs."""

from types import TracebackType
from typing import Self, TypeVar

import httpx

from headrace.client.clock import Clock
from headrace.client.conversation import Conversation
from headrace.client.exchange import TOO_LATE, Outcome, Reading, Send, Talk, broken_off, refused
from headrace.client.patience import Patience
from headrace.client.predictions import Metadata, Predictions
from headrace.client.rows import RowsLike

T = TypeVar("T")


class AsyncClient:
    """`headrace.client.Client` for asyncio: the same arguments, methods and errors, awaited.

    Args:
        url: see `Client`, as for all others but `http`.
        timeout_s: in seconds.
        retries: how many times a request is sent again.
        deadline_s: in seconds, for a whole call; None is no end.
        batch_rows: the most rows in one request.
        trust_env: whether the environment's proxies and certificates count.
        http: an asynchronous httpx client of your own.
        clock: time and chance; for tests.

    Raises:
        UsageError: an argument makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 10.0,
        retries: int = 3,
        deadline_s: float | None = 60.0,
        batch_rows: int = 5000,
        trust_env: bool = True,
        http: httpx.AsyncClient | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._conversation = Conversation(url, Patience(timeout_s, retries, deadline_s), batch_rows, self._clock)
        self._owned = http is None
        self._http = http or httpx.AsyncClient(trust_env=trust_env)

    async def predict(
        self, model: str, rows: RowsLike, *, version: int | None = None, request_id: str | None = None
    ) -> Predictions:
        """See `Client.predict`. Rows are turned into JSON on the event loop: some milliseconds for a thousand."""
        return await self._run(self._conversation.predict(model, rows, version, request_id))

    async def labels(self, model: str, labels: RowsLike) -> int:
        """See `Client.labels`."""
        return await self._run(self._conversation.labels(model, labels))

    async def ready(self, model: str) -> bool:
        """See `Client.ready`."""
        return await self._run(self._conversation.ready(model))

    async def live(self) -> bool:
        """See `Client.live`."""
        return await self._run(self._conversation.live())

    async def metadata(self, model: str) -> Metadata:
        """See `Client.metadata`."""
        return await self._run(self._conversation.metadata(model))

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owned:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self, talk: Talk[T]) -> T:
        try:
            send = next(talk)
            while True:
                send = talk.send(await self._send(send))
        except StopIteration as done:
            return done.value

    async def _send(self, send: Send) -> Outcome:
        if send.pause_s > 0:
            await self._clock.sleep_async(send.pause_s)
        asked = send.request
        request = self._http.build_request(
            asked.method, asked.url, headers=asked.headers, content=asked.content, timeout=send.timeout_s
        )
        try:
            response = await self._http.send(request, stream=True)
        except httpx.RequestError as problem:
            return refused(problem)
        try:
            reading = Reading(send.until, self._clock.monotonic)
            async for piece in response.aiter_bytes():
                if not reading.take(piece):
                    return TOO_LATE
            return reading.answer(response)
        except httpx.RequestError as problem:
            return broken_off(problem)
        finally:
            await response.aclose()
