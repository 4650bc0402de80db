"""Requests to a model service, over HTTP."""

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from headrace.adapters.answer import Answer
from headrace.telemetry import PROBE_ID

if TYPE_CHECKING:
    import httpx


class Ask(Protocol):
    """A way to ask a URL; None when there is no whole answer in time."""

    def __call__(
        self, url: str, timeout_s: float, method: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer | None: ...


class HttpProber:
    """The Prober port.

    Args:
        ask: how services are reached; over plain HTTP when not given.
        timeout_s: for an answer.
    """

    def __init__(self, ask: Ask | None = None, timeout_s: float = 5.0) -> None:
        self._ask = ask or self._directly
        self._timeout_s = timeout_s

    def send(self, url: str, model: str, rows: Sequence[Mapping[str, Any]], version: int | None = None) -> int:
        """See the port."""
        from headrace.client.conversation import VERSION_HEADER

        answer = self._post(url, model, rows, {} if version is None else {VERSION_HEADER: str(version)})
        return 0 if answer is None else answer.status

    def scores(self, url: str, model: str, rows: Sequence[Mapping[str, Any]]) -> Sequence[float] | None:
        """See the port."""
        answer = self._post(url, model, rows, {})
        if answer is None or answer.status != 200:
            return None
        try:
            found = [_score(one) for one in json.loads(answer.body)["predictions"]]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None
        return found if len(found) == len(rows) and all(map(math.isfinite, found)) else None

    def _post(
        self, url: str, model: str, rows: Sequence[Mapping[str, Any]], headers: Mapping[str, str]
    ) -> Answer | None:
        # Logged under this name: whoever looks at what clients asked can leave it out.
        named = {"X-Request-ID": f"{PROBE_ID}{uuid.uuid4().hex}", "Content-Type": "application/json", **headers}
        body = json.dumps({"rows": list(rows)}).encode()
        return self._ask(f"{url}/v1/models/{model}/predict", self._timeout_s, "POST", body, named)

    def _directly(
        self, url: str, timeout_s: float, method: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer | None:
        import httpx

        try:
            answer = self._client.request(method, url, content=body, headers=dict(headers), timeout=timeout_s)
        except httpx.HTTPError:
            return None
        return Answer(answer.status_code, answer.content)

    @cached_property
    def _client(self) -> "httpx.Client":
        import httpx

        # Our own services are never behind a proxy of the environment. A connection that was kept may be closing.
        return httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def _score(prediction: Mapping[str, Any]) -> float:
    """What the service's score histogram has of a prediction."""
    if "probabilities" in prediction:
        return float(max(prediction["probabilities"].values()))
    return float(prediction["probability"] if "probability" in prediction else prediction["value"])
