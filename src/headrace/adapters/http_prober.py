"""Requests to a model service, over HTTP."""

from collections.abc import Mapping, Sequence
from typing import Any


class HttpProber:
    """The Prober port."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        self._timeout_s = timeout_s

    def send(self, url: str, model: str, rows: Sequence[Mapping[str, Any]], version: int | None = None) -> int:
        """See the port."""
        import httpx

        from headrace.client.conversation import VERSION_HEADER

        headers = {} if version is None else {VERSION_HEADER: str(version)}
        try:
            answer = httpx.post(
                f"{url}/v1/models/{model}/predict",
                json={"rows": list(rows)},
                headers=headers,
                timeout=self._timeout_s,
                trust_env=False,  # our own services are never behind a proxy of the environment
            )
        except httpx.HTTPError:
            return 0
        return answer.status_code
