"""Every answer that is not a success: ``{"error": "sentence"}``, the form of the Open Inference Protocol."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

# Room for the first few problems of a body; an answer never grows with what was sent.
_SENTENCE_CHARS = 200
_SENTENCES = 5


class Refusal(Exception):
    """A request that is answered with an error.

    Attributes:
        sentence: what is wrong and what to do; it may name features and positions, never a value that was sent.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers

    def response(self) -> Response:
        """The answer."""
        return json_response({"error": self.sentence}, self.status, self.headers)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def first_few(problems: Sequence[str]) -> str:
    """Some problems as one sentence of bounded length."""
    shown = [p if len(p) <= _SENTENCE_CHARS else p[: _SENTENCE_CHARS - 1] + "…" for p in problems[:_SENTENCES]]
    return "; ".join(shown) + ("; and more" if len(problems) > _SENTENCES else "")


def refuse_http(model: str, version: int, path: str) -> Callable[[Request, Exception], Awaitable[Response]]:
    """The handler for what the router refuses: unknown paths and methods."""

    async def handle(_request: Request, problem: Exception) -> Response:
        if not isinstance(problem, HTTPException):
            raise problem
        sentence = f"{problem.detail}: GET /docs says which methods and paths there are"
        if problem.status_code == 404:
            here = f"this service answers for {model} version {version}, at POST {path}"
            sentence = f"there is nothing here: {here}; GET /docs says how"
        return Refusal(problem.status_code, sentence, problem.headers).response()

    return handle


async def refuse_unexpected(_request: Request, _problem: Exception) -> Response:
    """The handler for what nobody foresaw; the traceback goes to the log, not to the client."""
    return Refusal(500, "the service failed; its log says why").response()
