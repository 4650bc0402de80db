"""The HTTP application for one model version."""

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serving.headers import AnswerHeaders
from serving.limits import Limits
from serving.model import LoadedModel
from serving.predict import read_rows
from serving.protocol import protocol_routes
from serving.refusals import refuse_http, refuse_unexpected
from serving.schema import predict_operation
from serving.service import Service


def create_app(model: LoadedModel, limits: Limits | None = None) -> FastAPI:
    """The application.

    Its paths hold the model's name as it is: another name is an unknown path, so that no client makes a metric label.

    Args:
        model: what answers.
        limits: what a request may ask for.

    Returns:
        The app; `app.state.service` is the `Service`, whose `drain()` makes it unready.
    """
    service = Service(model, limits or Limits())
    path = f"/v1/models/{model.name}/predict"
    app = FastAPI(
        title=f"{model.name} version {model.version}",
        description=model.contract.description,
        version=str(model.version),
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.add_middleware(AnswerHeaders, version=model.version, draining=lambda: service.draining)
    app.add_exception_handler(HTTPException, refuse_http(model.name, model.version, path))
    app.add_exception_handler(Exception, refuse_unexpected)
    app.include_router(protocol_routes(service))

    @app.post(path, summary="Predict rows", openapi_extra=predict_operation(model, service.limits))
    async def predict(request: Request) -> Response:
        return await service.respond(request, read_rows)

    return app
