"""The client for programs that wait."""

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


class Client:
    """Asks the model services at one address; keeps its connections, and may be used by several threads.

    Args:
        url: where the services answer, without a path: the platform's address, or that of one service.
        timeout_s: the longest wait for a connection, and for each piece of an answer, in seconds.
        retries: how many times a request is sent again, when the connection failed before an answer began, and on
            429 and 503. Nothing else is sent again.
        deadline_s: the longest that one call takes, with all batches, tries and pauses, in seconds; None is no end.
        batch_rows: the most rows in one request; a service takes 10,000.
        trust_env: whether the environment's proxies and certificates count (HTTP_PROXY, NO_PROXY, SSL_CERT_FILE).
        http: an httpx client of your own, with its certificates, headers and proxies. `trust_env` is then its
            matter, and so is closing it.
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
        http: httpx.Client | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._conversation = Conversation(url, Patience(timeout_s, retries, deadline_s), batch_rows, self._clock)
        self._owned = http is None
        self._http = http or httpx.Client(trust_env=trust_env)

    def predict(
        self, model: str, rows: RowsLike, *, version: int | None = None, request_id: str | None = None
    ) -> Predictions:
        """Ask for the predictions of some rows. It is idempotent, so a request that found no answer is sent again.

        Args:
            model: the model's name.
            rows: feature to value: one mapping, a list of them, or a pandas DataFrame with a column for each feature.
                NaN, NaT and pandas.NA are sent as null. Keys and the decision time may be there too; what a feature
                store has under these keys may then be left out.
            version: the version to ask, whatever the weights say. Without it the weights decide once, for all rows.
            request_id: goes into the service's logs; at most 64 letters, digits, ``.``, ``_`` or ``-``.

        Returns:
            One prediction a row, in the order of the rows, all by one version.

        Raises:
            DataError: the rows break the contract, or can't be said in JSON; the message is the service's own sentence.
            UsageError: the address has no such model, or another version than the one asked for.
            Unavailable: no answer, an answer that is not a service's, or 429 or 5xx after the last try.
        """
        return self._run(self._conversation.predict(model, rows, version, request_id))

    def labels(self, model: str, labels: RowsLike) -> int:
        """Tell what became of predictions: late, in any order, and again if in doubt, for that changes nothing.

        Args:
            model: the model's name.
            labels: name to value: one mapping, a list of them, or a DataFrame. Each has the label by its name in the
                contract, and either `prediction_id` or the row's own key; optionally the decision time and the time at
                which the label became known, with their zones.

        Returns:
            How many are kept now: all.

        Raises:
            DataError: a label breaks the contract; none of its batch is kept. The message is the service's sentence.
            UsageError: the address has no such model, or keeps no labels.
            Unavailable: no answer, or 429 or 5xx after the last try: those of the batch may or may not be kept.
        """
        return self._run(self._conversation.labels(model, labels))

    def ready(self, model: str) -> bool:
        """Whether requests for a model are welcome now; False also when nothing answers. Asked once.

        Raises:
            UsageError: the address has no such model.
            DataError: the request is refused.
            Unavailable: what answers is not a model service.
        """
        return self._run(self._conversation.ready(model))

    def live(self) -> bool:
        """Whether the service at the address answers now; not for a proxy, which has no such route. Asked once.

        Raises:
            UsageError: the address is not that of a model service.
            DataError: the request is refused.
            Unavailable: what answers is not a model service.
        """
        return self._run(self._conversation.live())

    def metadata(self, model: str) -> Metadata:
        """What a model takes and gives, in the words of the Open Inference Protocol.

        Raises:
            UsageError: the address has no such model.
            DataError: the request is refused.
            Unavailable: no answer, an answer that is not a service's, or 429 or 5xx after the last try.
        """
        return self._run(self._conversation.metadata(model))

    def close(self) -> None:
        """Close the connections."""
        if self._owned:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, talk: Talk[T]) -> T:
        try:
            send = next(talk)
            while True:
                send = talk.send(self._send(send))
        except StopIteration as done:
            return done.value

    def _send(self, send: Send) -> Outcome:
        if send.pause_s > 0:
            self._clock.sleep(send.pause_s)
        asked = send.request
        request = self._http.build_request(
            asked.method, asked.url, headers=asked.headers, content=asked.content, timeout=send.timeout_s
        )
        try:
            response = self._http.send(request, stream=True)
        except httpx.RequestError as problem:
            return refused(problem)
        try:
            reading = Reading(send.until, self._clock.monotonic)
            for piece in response.iter_bytes():
                if not reading.take(piece):
                    return TOO_LATE
            return reading.answer(response)
        except httpx.RequestError as problem:
            return broken_off(problem)
        finally:
            response.close()
