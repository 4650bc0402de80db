"""`POST /v1/models/{model}/predict`: a request with rows to a question for the service."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from headrace.domain.encoding import Matrix
from serving.answers import predict_answer
from serving.bodies import Row, parse_rows, read_body
from serving.limits import Limits
from serving.model import LoadedModel, Predictions


@dataclass(frozen=True)
class RowsQuestion:
    """Rows to predict."""

    model: LoadedModel
    rows: Sequence[Row]

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def matrix(self) -> Matrix:
        """The rows as the model takes them."""
        return self.model.matrix(self.rows)

    def response(self, predictions: Predictions) -> Response:
        """One prediction for each row."""
        return Response(predict_answer(self.model, predictions), media_type="application/json")


async def read_rows(request: Request, model: LoadedModel, limits: Limits) -> RowsQuestion:
    """Read a predict request.

    Raises:
        Refusal: it is not one, or asks too much.
    """
    return RowsQuestion(model, parse_rows(await read_body(request, limits), limits))
