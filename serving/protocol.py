"""The routes of the Open Inference Protocol (version 2), and metrics."""

from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

import headrace
from headrace import telemetry
from headrace.domain.contract import Contract, Feature
from serving.answers import JSON
from serving.infer import read_infer
from serving.infer_schema import DATATYPES, infer_operation
from serving.model import LoadedModel
from serving.outputs import output_metadata
from serving.recent import recent_document
from serving.refusals import Refusal, json_response
from serving.service import Service

_EXTENSIONS = ["binary_tensor_data"]


def model_paths(model: LoadedModel) -> tuple[str, str]:
    """Where the model is. The running version as it is: another one is an unknown path, like another model."""
    return f"/v2/models/{model.name}", f"/v2/models/{model.name}/versions/{model.version}"


def infer_paths(model: LoadedModel) -> tuple[str, ...]:
    """Where tensors are posted to."""
    return tuple(f"{path}/infer" for path in model_paths(model))


def protocol_routes(service: Service) -> APIRouter:
    """Liveness, readiness, metadata and infer."""
    routes = APIRouter(tags=["Open Inference Protocol"])
    _add_server_routes(routes, service)
    for path in model_paths(service.model):
        _add_model_routes(routes, service, path)
    return routes


def metrics_route(service: Service) -> APIRouter:
    """What Prometheus scrapes, and what a rollout compares."""
    routes = APIRouter(tags=["Operations"])

    @routes.get("/metrics", summary="Metrics in Prometheus' text format", response_class=PlainTextResponse)
    async def metrics() -> Response:
        service.recorder.seal()
        service.desk.tick()
        return Response(service.desk.families.exposition(), media_type=CONTENT_TYPE_LATEST)

    @routes.get(telemetry.RECENT_PATH, summary="Scores of the latest rows, by a digest of each")
    async def recent() -> Response:
        return Response(recent_document(service.model, service.recorder.recent()), media_type=JSON)

    return routes


def _add_server_routes(routes: APIRouter, service: Service) -> None:
    @routes.get("/v2/health/live", summary="Whether the process answers")
    async def live() -> Response:
        return json_response({"live": True})

    @routes.get("/v2/health/ready", summary="Whether requests are welcome", responses=_READINESS)
    async def ready() -> Response:
        return _readiness(service, {"ready": True})

    @routes.get("/v2", summary="What serves")
    async def server() -> Response:
        return json_response({"name": "headrace", "version": headrace.__version__, "extensions": _EXTENSIONS})


def _add_model_routes(routes: APIRouter, service: Service, path: str) -> None:
    operation = infer_operation(service.model, service.desk.limits)

    @routes.get(path, summary="What the model takes and gives")
    async def metadata() -> Response:
        return json_response(_metadata(service.model.contract, service.model.version))

    @routes.get(f"{path}/ready", summary="Whether requests for the model are welcome", responses=_READINESS)
    async def model_ready() -> Response:
        return _readiness(service, {"name": service.model.name, "ready": True})

    @routes.post(f"{path}/infer", summary="Predict tensors", openapi_extra=operation)
    async def infer(request: Request) -> Response:
        return await service.respond(request, read_infer)


def _readiness(service: Service, answer: dict[str, Any]) -> Response:
    if service.desk.draining:
        return Refusal(503, "draining: send requests elsewhere").response()
    return json_response(answer)


_READINESS: dict[int | str, dict[str, Any]] = {503: {"description": "The service is draining."}}


def _metadata(contract: Contract, version: int) -> dict[str, Any]:
    # The inputs are one for each feature, and not the encoded matrix: the names, the types and the words of the
    # categories are what a client has, and one that fills in whatever is listed must not be told of both.
    return {
        "name": contract.model,
        "versions": [str(version)],
        "platform": "onnx_onnxv1",
        "inputs": [_input(feature) for feature in contract.features],
        "outputs": output_metadata(contract),
    }


def _input(feature: Feature) -> dict[str, Any]:
    return {"name": feature.name, "datatype": DATATYPES[feature.type], "shape": [-1]}
