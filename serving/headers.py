"""The headers that every answer carries."""

import re
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class AnswerHeaders:
    """Adds the request's id, the model's version and, while draining, the wish to close the connection.

    A plain ASGI layer: a FastAPI middleware costs more than a prediction.
    """

    def __init__(self, app: ASGIApp, version: int, draining: Callable[[], bool]) -> None:
        self._app = app
        self._version = str(version)
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Headrace-Version"] = self._version
                if self._draining():
                    # A client that kept the connection would find it closed under its next request.
                    headers["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_with_headers)
