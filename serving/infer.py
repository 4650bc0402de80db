"""`POST /v2/models/{model}/infer`: a request of the Open Inference Protocol to a question for the service."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from headrace.domain.encoding import Matrix
from serving.bodies import read_body
from serving.infer_matrix import to_matrix
from serving.infer_request import InferRequest, parse_infer
from serving.limits import Limits
from serving.model import LoadedModel, Predictions
from serving.outputs import infer_response
from serving.refusals import Refusal

# Triton's client names no type at all, and KServe's says application/octet-stream for what is partly binary.
MEDIA_TYPES = ("application/json", "application/octet-stream", "")
_JSON_BYTES = "inference-header-content-length"


@dataclass(frozen=True)
class InferQuestion:
    """Tensors to predict, and outputs to answer with."""

    model: LoadedModel
    asked: InferRequest

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return self.asked.row_count

    def matrix(self) -> Matrix:
        """The rows as the model takes them."""
        return to_matrix(self.model.contract, self.asked.inputs, self.asked.row_count)

    def response(self, predictions: Predictions) -> Response:
        """The answer in the protocol's form."""
        return infer_response(self.model, predictions, self.asked.outputs, self.asked.id)


async def read_infer(request: Request, model: LoadedModel, limits: Limits) -> InferQuestion:
    """Read an infer request.

    Raises:
        Refusal: it is not one, or asks too much.
    """
    json_bytes = _json_bytes(request.headers)
    body = await read_body(request, limits, MEDIA_TYPES)
    return InferQuestion(model, parse_infer(body, json_bytes, model.contract, limits))


def _json_bytes(headers: Mapping[str, str]) -> int | None:
    given = headers.get(_JSON_BYTES)
    if given is None:
        return None
    if not given.isascii() or not given.isdecimal() or len(given) > 18:
        raise Refusal(400, "Inference-Header-Content-Length has to be the length of the JSON in bytes")
    return int(given)
