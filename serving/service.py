"""The predict request from its body to its answer, and whether more are welcome."""

import logging
import time
import traceback
from collections.abc import Sequence

import anyio
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from serving.answers import predict_answer
from serving.bodies import Row, parse_rows, read_body
from serving.limits import Limits
from serving.metrics import Metrics
from serving.model import LoadedModel
from serving.refusals import Refusal, first_few
from serving.rows import RowProblems

_log = logging.getLogger("headrace.serving")


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

    async def predict(self, request: Request) -> Response:
        """Answer a predict request, whatever it is, and count it."""
        start = time.perf_counter()
        try:
            answer = Response(await self._admit(request), media_type="application/json")
        except Refusal as refusal:
            answer = refusal.response()
        except Exception as unforeseen:
            _log_unforeseen(unforeseen)
            answer = Refusal(500, "the model failed on this request; the log says why").response()
        self.metrics.answered(answer.status_code, time.perf_counter() - start)
        return answer

    async def _admit(self, request: Request) -> bytes:
        if self.in_flight >= self.limits.in_flight:
            raise Refusal(503, "too many requests are under way: try again", {"Retry-After": "1"})
        self.in_flight += 1
        try:
            rows = parse_rows(await read_body(request, self.limits), self.limits)
            if len(rows) <= self.model.inline_rows:
                return self.answer(rows)
            return await anyio.to_thread.run_sync(self.answer, rows, limiter=self._thread)
        finally:
            self.in_flight -= 1

    def answer(self, rows: Sequence[Row]) -> bytes:
        """Predict rows and say it in JSON.

        Raises:
            Refusal: 400 rows break the contract, 500 the model answers something that is not a number.
        """
        try:
            matrix = self.model.matrix(rows)
        except RowProblems as problems:
            raise Refusal(400, first_few(problems.sentences)) from problems
        predictions = self.model.predict(matrix)
        finite = np.isfinite(predictions.reshape(len(rows), -1)).all(axis=1)
        self.metrics.predicted(matrix)
        if not finite.all():
            self.metrics.nonfinite(int((~finite).sum()))
            raise Refusal(500, f"the model has no finite answer for rows[{int(np.argmin(finite))}]")
        return predict_answer(self.model, predictions)


def _log_unforeseen(problem: Exception) -> None:
    # Kind and place, not the message: it may hold a feature's value.
    place = traceback.extract_tb(problem.__traceback__)[-1]
    where = f"{place.filename}:{place.lineno}"
    _log.error("predict failed", extra={"fields": {"kind": type(problem).__name__, "where": where}})
