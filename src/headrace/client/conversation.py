"""What both clients do: which requests, in which order, and what their answers mean.

Every method is a generator that yields what is to be sent and is given what came of it. The clients only send and wait.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

import httpx

from headrace.client import answers
from headrace.client.clock import Clock
from headrace.client.exchange import Answer, NoAnswer, Request, Send, Talk
from headrace.client.patience import Patience, pause_s, worth_another_try
from headrace.client.predictions import Metadata, Prediction, Predictions
from headrace.client.rows import Batch, Rows, RowsLike, batches, encode
from headrace.errors import HeadraceError, Unavailable, UsageError

# Asks the proxy for one version, whatever the weights say.
VERSION_HEADER = "Headrace-Version"
_JSON = {"Content-Type": "application/json"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Conversation:
    """What is said to the services at one address.

    Raises:
        UsageError: the address is not one of HTTP, or `batch_rows` is less than 1.
    """

    def __init__(self, url: str, patience: Patience, batch_rows: int, clock: Clock) -> None:
        if batch_rows < 1:
            raise UsageError(f"batch_rows is {batch_rows!r}: give 1 or more")
        self._url, self._shown = _addresses(url)
        self._patience = patience
        self._batch_rows = batch_rows
        self._clock = clock

    def predict(self, model: str, rows: RowsLike, version: int | None, request_id: str | None) -> Talk[Predictions]:
        """Predict rows, in as many batches as they need, by one version."""
        headers = _predict_headers(version, request_id)
        encoded = encode(rows)
        until = self._patience.until(self._clock)
        found: Predictions | None = None
        items: list[Prediction] = []
        for batch in batches(encoded, self._batch_rows):
            request = self._request("POST", f"/v1/models/{_in_path(model)}/predict", headers, batch.body)
            answer = yield from self._predict_batch(request, batch, encoded, until)
            _check_version(answer.version, version, found, request.shown)
            # The others are asked of the version that answered the first: while a canary has some percent of the
            # requests, batches left to the weights would nearly always be of two versions, and all in vain.
            headers[VERSION_HEADER] = str(answer.version)
            found = found or answer
            items += answer.items
        assert found is not None  # noqa: S101 - `encode` refuses to have no rows
        return replace(found, items=tuple(items), index=encoded.index)

    def labels(self, model: str, labels: RowsLike) -> Talk[int]:
        """Tell outcomes, in as many batches as they need."""
        encoded = encode(labels, "labels")
        until = self._patience.until(self._clock)
        accepted = 0
        for batch in batches(encoded, self._batch_rows):
            request = self._request("POST", f"/v1/models/{_in_path(model)}/labels", dict(_JSON), batch.body)
            try:
                answer = yield from self._ask(request, until)
            except HeadraceError as failed:
                if batch.start == 0:
                    raise
                where = f"the batch whose labels[0] is label {batch.start} of {len(encoded.encoded)}"
                raise type(failed)(f"{failed} (in {where}; those before are kept)") from failed
            accepted += answers.accepted(answer, request.shown, batch.count)
        return accepted

    def ready(self, model: str) -> Talk[bool]:
        """Whether requests for a model are welcome now."""
        request = self._request("GET", f"/v2/models/{_in_path(model)}/ready")
        return (yield from self._health(request, "ready"))

    def live(self) -> Talk[bool]:
        """Whether a service answers now."""
        request = self._request("GET", "/v2/health/live")
        try:
            return (yield from self._health(request, "live"))
        except UsageError as unknown:
            raise UsageError(
                f"{request.shown} is not there: this is no model service; a proxy in front of services does not say "
                "whether they are live, so ask ready(model) of it"
            ) from unknown

    def metadata(self, model: str) -> Talk[Metadata]:
        """What a model takes and gives."""
        request = self._request("GET", f"/v2/models/{_in_path(model)}")
        answer = yield from self._ask(request, self._patience.until(self._clock))
        return answers.metadata(answer, request.shown)

    def _predict_batch(self, request: Request, batch: Batch, rows: Rows, until: float) -> Talk[Predictions]:
        try:
            answer = yield from self._ask(request, until)
        except HeadraceError as failed:
            if batch.start == 0:
                raise
            # Positions in the service's sentence are those of the batch.
            where = f"the batch whose rows[0] is row {batch.start} of {len(rows.encoded)}"
            pinned = f"asked of version {request.headers[VERSION_HEADER]}, which answered the rows before"
            raise type(failed)(f"{failed} (in {where}, {pinned})") from failed
        return answers.predictions(answer, request.shown, batch.count)

    def _health(self, request: Request, key: str) -> Talk[bool]:
        # Once: the question is about now, and whoever asks it asks again.
        patience = self._patience
        timeout_s = min(patience.timeout_s, patience.deadline_s or patience.timeout_s)
        outcome = yield Send(request, 0.0, timeout_s, patience.until(self._clock))
        match outcome:
            case Answer() if answers.succeeded(outcome):
                return answers.flag(outcome, request.shown, key)
            case Answer() if outcome.status < 500 and outcome.status != 429:
                raise answers.refusal(outcome, request.shown)
        return False

    def _ask(self, request: Request, until: float) -> Talk[Answer]:
        """Ask until there is an answer that another try would not better.

        Asking again is safe: everything that is asked here is idempotent. A row predicted twice has the same
        prediction, under another id, and the first one's id is known to nobody. A label told twice is one label.
        """
        wait_s, tries = 0.0, 0
        while True:
            left_s = until - self._clock.monotonic() - wait_s
            if left_s <= 0:
                raise Unavailable(f"{request.shown}: {self._over()} before it could be asked")
            outcome = yield Send(request, wait_s, min(self._patience.timeout_s, left_s), until)
            tries += 1
            if isinstance(outcome, Answer) and answers.succeeded(outcome):
                return outcome
            if not worth_another_try(outcome) or tries > self._patience.retries:
                raise _failure(outcome, request, tries)
            wait_s = pause_s(outcome, tries, self._clock)
            if self._clock.monotonic() + wait_s >= until:
                failed = _failure(outcome, request, tries)
                raise type(failed)(
                    f"{failed}; {self._over()} before another try in {wait_s:.1f} s"
                ) from failed.__cause__

    def _over(self) -> str:
        return f"the deadline_s of {self._patience.deadline_s or 0:g} s is over"

    def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Request:
        return Request(method, self._url + path, self._shown + path, dict(headers or {}), content)


def _failure(outcome: Answer | NoAnswer, request: Request, tries: int) -> HeadraceError:
    if isinstance(outcome, Answer):
        return answers.refusal(outcome, request.shown, tries)
    asked = f", asked {tries} times" if tries > 1 else ""
    failed = Unavailable(
        f"{request.shown} does not answer ({outcome.reason}){asked}: check the address, or start the platform with "
        "`headrace up`"
    )
    failed.__cause__ = outcome.problem
    return failed


def _addresses(url: str) -> tuple[str, str]:
    """The address as it is used, and as it may be shown: without a password."""
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as wrong:
        raise UsageError(f"{url!r} is no address: give one such as http://127.0.0.1:8080 ({wrong})") from wrong
    shown = str(address.copy_with(userinfo=b""))
    if address.scheme not in ("http", "https") or not address.host or address.query or address.fragment:
        raise UsageError(f"{shown!r} is not the address of a service: give one such as http://127.0.0.1:8080")
    return str(address).rstrip("/"), shown.rstrip("/")


def _in_path(model: str) -> str:
    if not model.strip("."):
        raise UsageError(f"{model!r} is no name of a model")
    return quote(model, safe="")


def _predict_headers(version: int | None, request_id: str | None) -> dict[str, str]:
    headers = dict(_JSON)
    if version is not None:
        headers[VERSION_HEADER] = str(version)
    if request_id is not None:
        if not _REQUEST_ID.fullmatch(request_id):
            raise UsageError(f"request_id is {request_id!r}: give 1 to 64 letters, digits, '.', '_' or '-'")
        headers["X-Request-ID"] = request_id
    return headers


def _check_version(answered: int, asked: int | None, before: Predictions | None, url: str) -> None:
    if asked is not None and answered != asked:
        raise UsageError(
            f"version {asked} was asked for, and version {answered} answers at {url}: ask the platform's address, "
            "which knows all versions in service, or ask for no version"
        )
    if before is not None and answered != before.version:
        raise Unavailable(
            f"{url} answered the first rows with version {before.version} and later ones with version {answered}, "
            "which was put in service meanwhile: ask again"
        )
