"""The page for people: Swagger UI at /docs, from an installed package, so that it is there without the internet.

FastAPI's own page takes its scripts from somebody else's server, into a page that can call this service.
"""

import functools
import html
import importlib.metadata
import importlib.util
from pathlib import Path

from fastapi import APIRouter, FastAPI, HTTPException, Request
from starlette.responses import FileResponse, HTMLResponse, Response

from headrace.errors import UsageError

_PACKAGE = "fastapi_swagger"
_MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}

# Scripts, styles and requests from and to this service only. The icons in the style sheet are data: URLs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer"}
# The version is in the path.
_ASSET_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable"}

# A file of its own: with a script in the page, the policy would have to allow scripts in pages.
_START = """\
const page = document.getElementById("swagger-ui");
SwaggerUIBundle({ domNode: page, url: page.dataset.openapi, deepLinking: true, validatorUrl: null });
"""
# Its path has no version, because its content is ours.
_START_HEADERS = {"Cache-Control": "no-cache"}

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{assets}/swagger-ui.css">
<link rel="icon" href="{assets}/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui" data-openapi=".{openapi}"></div>
<script src="{assets}/swagger-ui-bundle.js"></script>
<script src="./docs/start.js"></script>
</body>
</html>
"""


def docs_routes(app: FastAPI) -> APIRouter:
    """`/docs` and what it loads, for an app that was made with `docs_url=None`.

    Nothing is imported or read until somebody asks for the page.

    Raises:
        UsageError: the package with Swagger UI's files is not installed.
    """
    folder = _folder()
    openapi, title = html.escape(app.openapi_url or ""), html.escape(app.title)
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    async def page() -> Response:
        text = _PAGE.format(title=title, assets=f"./docs/{_version()}", openapi=openapi)
        return HTMLResponse(text, headers=_PAGE_HEADERS)

    @routes.get("/docs/start.js")
    async def start() -> Response:
        return Response(_START, media_type="text/javascript", headers=_START_HEADERS)

    @routes.get("/docs/{version}/{name}")
    async def asset(request: Request) -> Response:
        # Declared as parameters they would cost 25 ms at the start: FastAPI imports pydantic.v1 to look at them.
        version, name = request.path_params["version"], request.path_params["name"]
        if version != _version() or name not in _MEDIA_TYPES:
            raise HTTPException(404)
        return FileResponse(folder / name, media_type=_MEDIA_TYPES[name], headers=_ASSET_HEADERS)

    return routes


def _folder() -> Path:
    # Found, not imported.
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise UsageError(f"the page /docs needs the package {_PACKAGE}: install the extra `serving`")
    return Path(package.submodule_search_locations[0]) / "resources"


@functools.cache
def _version() -> str:
    return importlib.metadata.version(_PACKAGE)
