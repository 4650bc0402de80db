"""Requests to a model service, over HTTP."""

import math
import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headrace.telemetry import PROBE_ID

if TYPE_CHECKING:
    import httpx


class HttpProber:
    """The Prober port."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        self._timeout_s = timeout_s

    def send(self, url: str, model: str, rows: Sequence[Mapping[str, Any]], version: int | None = None) -> int:
        """See the port."""
        from headrace.client.conversation import VERSION_HEADER

        answer = self._post(url, model, rows, {} if version is None else {VERSION_HEADER: str(version)})
        return 0 if answer is None else answer.status_code

    def scores(self, url: str, model: str, rows: Sequence[Mapping[str, Any]]) -> Sequence[float] | None:
        """See the port."""
        answer = self._post(url, model, rows, {})
        if answer is None or answer.status_code != 200:
            return None
        try:
            found = [_score(one) for one in answer.json()["predictions"]]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None
        return found if len(found) == len(rows) and all(map(math.isfinite, found)) else None

    def _post(
        self, url: str, model: str, rows: Sequence[Mapping[str, Any]], headers: Mapping[str, str]
    ) -> "httpx.Response | None":
        import httpx

        # Logged under this name: whoever looks at what clients asked can leave it out.
        named = {"X-Request-ID": f"{PROBE_ID}{uuid.uuid4().hex}", **headers}
        try:
            return self._client.post(f"{url}/v1/models/{model}/predict", json={"rows": list(rows)}, headers=named)
        except httpx.HTTPError:
            return None

    @cached_property
    def _client(self) -> "httpx.Client":
        import httpx

        # Our own services are never behind a proxy of the environment. A connection that was kept may be closing.
        return httpx.Client(timeout=self._timeout_s, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def _score(prediction: Mapping[str, Any]) -> float:
    """What the service's score histogram has of a prediction."""
    if "probabilities" in prediction:
        return float(max(prediction["probabilities"].values()))
    return float(prediction["probability"] if "probability" in prediction else prediction["value"])
