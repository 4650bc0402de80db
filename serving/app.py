"""The HTTP application for one model version: the ordinary way to it, and the readable one."""

import weakref

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serving.desk import Desk
from serving.docs_page import docs_routes
from serving.front import Front, Release
from serving.labels import take_labels
from serving.lanes import lanes
from serving.model import LoadedModel
from serving.predict import read_rows
from serving.protocol import infer_paths, metrics_route, protocol_routes
from serving.refusals import refuse_http, refuse_unexpected
from serving.schema import labels_operation, predict_operation
from serving.service import Service


def release(model: LoadedModel, desk: Desk) -> Release:
    """A model version with all ways to it, ready to be put in front."""
    service = Service(model, desk)
    # FastAPI keeps every endpoint that it has ever seen in caches (fastapi.dependencies.models, 4096 of them). They
    # must not keep the version as well: it goes when its release does.
    app = create_app(weakref.proxy(service))
    return Release(service, app, lanes(service, _rows_path(model), infer_paths(model)))


def front(model: LoadedModel, desk: Desk | None = None) -> Front:
    """An application that serves one version, until it is given another."""
    return Front(release(model, desk or Desk()))


def create_app(service: Service) -> FastAPI:
    """The routes.

    Their paths hold the model's name as it is: another name is an unknown path, so that no client makes a metric label.
    """
    model, desk = service.model, service.desk
    path = _rows_path(model)
    app = FastAPI(
        title=f"{model.name} version {model.version}",
        description=model.contract.description,
        version=str(model.version),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(HTTPException, refuse_http(model.name, model.version, path))
    app.add_exception_handler(Exception, refuse_unexpected)
    app.include_router(docs_routes(app))
    completes = service.completion is not None

    @app.post(
        path, tags=["Rows"], summary="Predict rows", openapi_extra=predict_operation(model, desk.limits, completes)
    )
    async def predict(request: Request) -> Response:
        return await service.respond(request, read_rows)

    @app.post(
        f"/v1/models/{model.name}/labels",
        tags=["Rows"],
        summary="Tell outcomes",
        openapi_extra=labels_operation(model.contract, desk.limits),
    )
    async def labels(request: Request) -> Response:
        return await take_labels(request, service.model.contract, service.desk)

    app.include_router(protocol_routes(service))
    app.include_router(metrics_route(service))
    return app


def _rows_path(model: LoadedModel) -> str:
    return f"/v1/models/{model.name}/predict"
