"""A request for predictions from its body to its answer, and whether more are welcome."""

import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from headrace.domain.encoding import Matrix
from serving.limits import Limits
from serving.metrics import Metrics
from serving.model import LoadedModel, Predictions
from serving.refusals import Refusal, first_few
from serving.rows import RowProblems

_log = logging.getLogger("headrace.serving")


class Question(Protocol):
    """A request whose form has been understood, in whichever of the two APIs it was asked."""

    @property
    def row_count(self) -> int:
        """How many rows it has."""

    def matrix(self) -> Matrix:
        """Its rows as the model takes them.

        Raises:
            RowProblems: some rows break the contract.
            Refusal: they are not what the request says they are.
        """

    def response(self, predictions: Predictions) -> Response:
        """The answer, with a prediction for every row."""


Read = Callable[[Request, LoadedModel, Limits], Awaitable[Question]]


class Service:
    """One model version in service.

    Attributes:
        draining: no more requests are wanted; those that come are still answered.
        in_flight: predict requests under way.
    """

    def __init__(self, model: LoadedModel, limits: Limits) -> None:
        self.model = model
        self.limits = limits
        self.metrics = Metrics(model)
        self.draining = False
        self.in_flight = 0
        # One: the process is one core's worth, and every further thread would take its turn from the event loop.
        self._thread = anyio.CapacityLimiter(1)
        self.metrics.ready(True)

    def drain(self) -> None:
        """Say that no more requests are wanted."""
        self.draining = True
        self.metrics.ready(False)

    async def respond(self, request: Request, read: Read) -> Response:
        """Answer a request for predictions, whatever it is, and count it."""
        start = time.perf_counter()
        try:
            answer = await self._admit(request, read)
        except Refusal as refusal:
            answer = refusal.response()
        except Exception as unforeseen:
            _log_unforeseen(unforeseen)
            answer = Refusal(500, "the model failed on this request; the log says why").response()
        self.metrics.answered(answer.status_code, time.perf_counter() - start)
        return answer

    async def _admit(self, request: Request, read: Read) -> Response:
        if self.in_flight >= self.limits.in_flight:
            raise Refusal(503, "too many requests are under way: try again", {"Retry-After": "1"})
        self.in_flight += 1
        try:
            question = await read(request, self.model, self.limits)
            if question.row_count <= self.model.inline_rows:
                return self.answer(question)
            return await anyio.to_thread.run_sync(self.answer, question, limiter=self._thread)
        finally:
            self.in_flight -= 1

    def answer(self, question: Question) -> Response:
        """Predict the rows that are asked about.

        Raises:
            Refusal: 400 rows break the contract, 500 the model answers something that is not a number.
        """
        try:
            matrix = question.matrix()
        except RowProblems as problems:
            raise Refusal(400, first_few(problems.sentences)) from problems
        predictions = self.model.predict(matrix)
        finite = np.isfinite(predictions.reshape(len(matrix), -1)).all(axis=1)
        self.metrics.predicted(matrix)
        if not finite.all():
            self.metrics.nonfinite(int((~finite).sum()))
            raise Refusal(500, f"the model has no finite answer for rows[{int(np.argmin(finite))}]")
        return question.response(predictions)


def _log_unforeseen(problem: Exception) -> None:
    # Kind and place, not the message: it may hold a feature's value.
    place = traceback.extract_tb(problem.__traceback__)[-1]
    where = f"{place.filename}:{place.lineno}"
    _log.error("predict failed", extra={"fields": {"kind": type(problem).__name__, "where": where}})
