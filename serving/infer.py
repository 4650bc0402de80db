"""`POST /v2/models/{model}/infer`: a request of the Open Inference Protocol to a question for the service."""

from dataclasses import dataclass

from starlette.requests import Request

from headrace.domain.encoding import Matrix
from serving.answers import Answer
from serving.bodies import read_body
from serving.infer_matrix import TensorEncoder
from serving.infer_request import InferRequest, parse_infer
from serving.model import LoadedModel, Predictions
from serving.outputs import infer_answer
from serving.refusals import Refusal
from serving.service import Service

# Triton's client names no type at all, and KServe's says application/octet-stream for what is partly binary.
MEDIA_TYPES = ("application/json", "application/octet-stream", "")
INFER_HEADER = "inference-header-content-length"


@dataclass(frozen=True)
class InferQuestion:
    """Tensors to predict, and outputs to answer with."""

    model: LoadedModel
    asked: InferRequest
    keys: None = None

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return self.asked.row_count

    def matrix(self) -> Matrix:
        """The rows as the model takes them."""
        return TensorEncoder(self.model.contract).encode(self.asked.inputs, self.asked.row_count)

    def answer(self, predictions: Predictions, ids: list[str]) -> Answer:
        """The answer in the protocol's form."""
        return infer_answer(self.model, predictions, ids, self.asked.outputs, self.asked.id)


async def read_infer(request: Request, service: Service) -> InferQuestion:
    """Read an infer request.

    Raises:
        Refusal: it is not one, or asks too much.
    """
    given = request.headers.get(INFER_HEADER)
    json_bytes = None if given is None else json_length(given)
    limits = service.desk.limits
    body = await read_body(request, limits, MEDIA_TYPES)
    return InferQuestion(service.model, parse_infer(body, json_bytes, service.model.contract, limits))


def json_length(given: str) -> int:
    """What the header says about the length of the JSON.

    Raises:
        Refusal: 400 that is not a length.
    """
    if not given.isascii() or not given.isdecimal() or len(given) > 18:
        raise Refusal(400, "Inference-Header-Content-Length has to be the length of the JSON in bytes")
    return int(given)
