"""`POST /v1/models/{model}/predict`: a request with rows to a question for the service."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from starlette.requests import Request

from headrace.domain.encoding import Matrix
from serving.answers import Answer, predict_answer
from serving.bodies import Row, parse_rows, read_body
from serving.keys import Keys, read_keys
from serving.model import LoadedModel, Predictions
from serving.refusals import Refusal, first_few
from serving.rows import RowProblems
from serving.service import Service


@dataclass(frozen=True)
class RowsQuestion:
    """Rows to predict."""

    model: LoadedModel
    rows: Sequence[Row]

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    @cached_property
    def keys(self) -> Keys | None:
        """The keys of the rows, where they have any."""
        return read_keys(self.model.contract, self.rows)

    def matrix(self) -> Matrix:
        """The rows as the model takes them."""
        return self.model.matrix(self.rows)

    def answer(self, predictions: Predictions, ids: list[str]) -> Answer:
        """One prediction for each row."""
        return predict_answer(self.model, predictions, ids)


async def read_rows(request: Request, service: Service) -> RowsQuestion:
    """Read a predict request, and complete its rows from the online store where there is one.

    Raises:
        Refusal: it is not one, or asks too much; or the contract refuses rows for which the store has no usable value.
        RowProblems: its keys are none.
    """
    limits = service.desk.limits
    question = RowsQuestion(service.model, parse_rows(await read_body(request, limits), limits))
    # Before anything is looked up with them.
    _ = question.keys
    if service.completion is not None:
        completed = await service.completion.complete(question.rows)
        service.metrics.completed(completed.fallbacks, completed.ages_s)
        if completed.problems:
            raise RowProblems(completed.problems)
        if completed.refused:
            raise Refusal(503, first_few(completed.refused), {"Retry-After": "1"})
    return question
