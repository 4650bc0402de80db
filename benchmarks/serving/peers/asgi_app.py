"""The least that Python's usual stack can do: an ASGI app that reads the request and gives a fixed answer.

asgi_app.py PORT ANSWER_1 ANSWER_100; the answers are files with JSON.
"""

import sys
from pathlib import Path
from typing import Any

import uvicorn


def _answer(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers}, {
        "type": "http.response.body",
        "body": body,
    }


ANSWERS = {"/1": _answer(Path(sys.argv[2]).read_bytes()), "/100": _answer(Path(sys.argv[3]).read_bytes())}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read all, answer."""
    while (await receive()).get("more_body"):
        pass
    start, body = ANSWERS[scope["path"]]
    await send(start)
    await send(body)


uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", lifespan="off", access_log=False)
