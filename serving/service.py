"""A request for predictions from its body to its answer: one model version in service."""

import logging
import math
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from headrace.domain.encoding import Matrix
from serving.answers import Answer
from serving.completion import Completion
from serving.context import SCOPE_KEY, START_KEY, Context
from serving.desk import Desk
from serving.keys import Keys
from serving.metrics import Metrics
from serving.model import LoadedModel, Predictions
from serving.recorder import Recorder
from serving.refusals import Refusal, first_few
from serving.rows import RowProblems

_log = logging.getLogger("headrace.serving")


class Question(Protocol):
    """A request whose form has been understood, in whichever of the APIs it was asked."""

    @property
    def row_count(self) -> int:
        """How many rows it has."""

    @property
    def keys(self) -> Keys | None:
        """The keys of its rows, where they have any."""

    def matrix(self) -> Matrix:
        """Its rows as the model takes them.

        Raises:
            RowProblems: some rows break the contract.
            Refusal: they are not what the request says they are.
        """

    def answer(self, predictions: Predictions, ids: list[str]) -> Answer:
        """The answer, with a prediction and its id for every row."""


class Service:
    """One model version in service.

    Attributes:
        desk: what it shares with the versions before and after it in this process.
        completion: completes rows from the online store; None without one.
    """

    def __init__(self, model: LoadedModel, desk: Desk) -> None:
        self.model = model
        self.desk = desk
        self.metrics = Metrics(model, desk.families)
        self.recorder = Recorder(model, self.metrics, desk.block_log(model))
        self.completion: Completion | None = desk.completion(model.contract)
        # One: the process is one core's worth, and every further thread would take its turn from the event loop.
        self._thread = anyio.CapacityLimiter(1)

    def welcome(self) -> None:
        """Say that requests are wanted, unless the process is about to stop."""
        self.metrics.ready(not self.desk.draining)

    def drain(self) -> None:
        """Say that no more requests are wanted."""
        self.desk.draining = True
        self.metrics.ready(False)

    def retire(self, successor: "Service") -> None:
        """Say that another version answers now, in this process."""
        if successor.model.version != self.model.version:
            self.metrics.ready(False)

    async def respond(self, request: Request, read: "Read") -> Response:
        """Answer a request for predictions, whatever it is, and count it."""
        start: float = request.scope[START_KEY]
        context: Context = request.scope[SCOPE_KEY]
        try:
            with self.desk.place():
                question = await read(request, self)
                answer = await self._answer(question, context)
            response = answer.response()
        except Exception as problem:
            response = self.refused(problem, context)
        self.recorder.answered(response.status_code, time.perf_counter() - start)
        return response

    def refused(self, problem: Exception, context: Context) -> Response:
        """The answer to a request that gets no prediction."""
        match problem:
            case Refusal():
                return problem.response()
            case RowProblems():
                return Refusal(400, first_few(problem.sentences)).response()
        _log_unforeseen(problem, context)
        return Refusal(500, "the model failed on this request; the log says why").response()

    async def _answer(self, question: Question, context: Context) -> Answer:
        if question.row_count <= self.model.inline_rows:
            return self.predict(question, context)
        return await anyio.to_thread.run_sync(self.predict, question, context, limiter=self._thread)

    def predict(self, question: Question, context: Context) -> Answer:
        """Predict the rows that are asked about, and record the predictions.

        Raises:
            RowProblems: some rows break the contract.
            Refusal: 400 they are not what the request says, 500 the model answers something that is not a number.
        """
        matrix = question.matrix()
        predictions = self.model.predict(matrix)
        # In doubles, in which no sum of finite float32 is infinite: one number tells of all.
        if not math.isfinite(predictions.item() if predictions.size == 1 else predictions.sum(dtype=np.float64)):
            raise self._not_finite(predictions)
        return question.answer(predictions, self.recorder.add(matrix, predictions, context, question.keys))

    def _not_finite(self, predictions: Predictions) -> Refusal:
        finite = np.isfinite(predictions.reshape(len(predictions), -1)).all(axis=1)
        self.metrics.nonfinite(int((~finite).sum()))
        return Refusal(500, f"the model has no finite answer for rows[{int(np.argmin(finite))}]")


Read = Callable[[Request, Service], Awaitable[Question]]


def _log_unforeseen(problem: Exception, context: Context) -> None:
    # Kind and place, not the message: it may hold a feature's value.
    place = traceback.extract_tb(problem.__traceback__)[-1]
    fields = {
        "kind": type(problem).__name__,
        "where": f"{place.filename}:{place.lineno}",
        "request_id": context.request_id.decode(),
        "trace_id": context.trace_id.decode(),
    }
    _log.error("predict failed", extra={"fields": fields})
