"""Health and metadata as the Open Inference Protocol (version 2) has them."""

from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

import headrace
from headrace.domain.contract import Contract, Feature
from serving.refusals import Refusal, json_response
from serving.service import Service

_DATATYPES = {"float": "FP32", "int": "INT64", "bool": "BOOL", "category": "BYTES"}


def status_routes(service: Service) -> APIRouter:
    """Everything but predictions: liveness, readiness, metadata and metrics."""
    model = service.model
    routes = APIRouter()

    def readiness(answer: dict[str, Any]) -> Response:
        if service.draining:
            return Refusal(503, "draining: send requests elsewhere").response()
        return json_response(answer)

    @routes.get("/v2/health/live", summary="Whether the process answers")
    async def live() -> Response:
        return json_response({"live": True})

    @routes.get("/v2/health/ready", summary="Whether requests are welcome", responses=_READINESS)
    async def ready() -> Response:
        return readiness({"ready": True})

    @routes.get(
        f"/v2/models/{model.name}/ready", summary="Whether requests for the model are welcome", responses=_READINESS
    )
    async def model_ready() -> Response:
        return readiness({"name": model.name, "ready": True})

    @routes.get("/v2", summary="What serves")
    async def server() -> Response:
        return json_response({"name": "headrace", "version": headrace.__version__, "extensions": []})

    @routes.get(f"/v2/models/{model.name}", summary="What the model takes and gives")
    async def metadata() -> Response:
        return json_response(_metadata(model.contract, model.version))

    @routes.get("/metrics", summary="Metrics in Prometheus' text format", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return routes


_READINESS: dict[int | str, dict[str, Any]] = {503: {"description": "The service is draining."}}


def _metadata(contract: Contract, version: int) -> dict[str, Any]:
    return {
        "name": contract.model,
        "versions": [str(version)],
        "platform": "onnxruntime_onnx",
        "inputs": [_input(feature) for feature in contract.features],
        "outputs": [_output(contract)],
    }


def _input(feature: Feature) -> dict[str, Any]:
    return {"name": feature.name, "datatype": _DATATYPES[feature.type], "shape": [-1]}


def _output(contract: Contract) -> dict[str, Any]:
    match contract.task:
        case "binary":
            return {"name": "probability", "datatype": "FP32", "shape": [-1]}
        case "regression":
            return {"name": "value", "datatype": "FP32", "shape": [-1]}
        case "multiclass":
            return {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(contract.label.classes)]}
