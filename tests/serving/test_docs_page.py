"""What of the page can be seen without a browser: it is whole, and nothing in it comes from or goes to elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.testclient import TestClient

from headrace.errors import UsageError
from serving.docs_page import docs_routes

REPOSITORY = Path(__file__).parents[2]
HERE = "http://testserver"


class Page(HTMLParser):
    """The addresses in a page, and whatever a strict policy would keep from running."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._within = tag
        for name, value in attrs:
            if name in ("src", "href", "data-openapi"):
                self.addresses.append(urljoin(f"{HERE}/docs", value))
            if name.startswith("on") or name == "style":
                self.inline.append(f"{tag} {name}")

    def handle_data(self, data):
        if self._within in ("script", "style") and data.strip():
            self.inline.append(data)


def make_app(title: str = "flight_delay version 3") -> FastAPI:
    app = FastAPI(title=title, docs_url=None, redoc_url=None)
    app.include_router(docs_routes(app))

    @app.get("/v2")
    async def server(request: Request) -> Response:
        return Response()

    return app


@pytest.fixture
def client() -> TestClient:
    return TestClient(make_app())


@pytest.fixture
def page(client) -> Page:
    return Page(client.get("/docs").text)


def policy(client) -> dict[str, list[str]]:
    directives = client.get("/docs").headers["Content-Security-Policy"].split(";")
    return {words[0]: words[1:] for words in map(str.split, directives)}


def test_everything_the_page_names_is_served_from_here(client, page):
    kinds = []
    for address in page.addresses:
        assert urlsplit(address)[:2] == urlsplit(HERE)[:2]
        answer = client.get(address)
        assert answer.status_code == 200
        assert len(answer.content) > 100
        kinds.append(answer.headers["Content-Type"].split(";")[0])
    assert sorted(kinds) == ["application/json", "image/png", "text/css", "text/javascript", "text/javascript"]


def test_page_and_start_name_no_other_host(client):
    for path in ("/docs", "/docs/start.js"):
        assert "//" not in client.get(path).text


def test_page_needs_no_inline_script_or_style(page):
    assert page.inline == []


def test_policy_allows_this_service_and_nobody_else(client):
    found = policy(client)
    assert found["default-src"] == ["'none'"]
    for directive, sources in found.items():
        assert set(sources) <= {"'self'", "'none'"} | ({"data:"} if directive == "img-src" else set())
    # These do not fall back to default-src.
    assert found["base-uri"] == found["form-action"] == found["frame-ancestors"] == ["'none'"]


def test_specification_is_never_sent_to_a_validator(client):
    assert "validatorUrl: null" in client.get("/docs/start.js").text


def test_swagger_ui_knows_this_openapi_version(client, page):
    bundle = client.get(next(address for address in page.addresses if address.endswith("-bundle.js"))).text
    assert "SwaggerUIBundle" in bundle
    major = int(re.search(r'PACKAGE_VERSION:"(\d+)\.', bundle)[1])
    # Swagger UI 4 refuses OpenAPI 3.1.
    assert client.get("/openapi.json").json()["openapi"].startswith("3.1")
    assert major >= 5


def test_assets_are_kept_for_ever_and_what_names_them_is_not(client, page):
    assets = [address for address in page.addresses if re.search(r"/docs/[0-9.]+/", address)]
    assert len(assets) == 3
    for address in assets:
        assert client.get(address).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    for path in ("/docs", "/docs/start.js"):
        assert client.get(path).headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["0.0.0/swagger-ui.css", "{v}/__init__.py", "{v}/", "{v}/..%2fmain.py", "{v}/../../main.py", "{v}%2fx"]
)
def test_nothing_else_of_the_package_is_served(client, page, path):
    version = re.search(r"/docs/([0-9.]+)/", " ".join(page.addresses))[1]
    assert client.get(f"/docs/{path.format(v=version)}").status_code == 404


def test_title_is_text():
    page = TestClient(make_app("<script>alert(1)</script> & more")).get("/docs").text
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt; &amp; more</title>" in page


def test_page_is_not_part_of_what_it_describes(client):
    assert list(client.get("/openapi.json").json()["paths"]) == ["/v2"]


def test_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi_swagger", None)
    with pytest.raises(UsageError, match="needs the package fastapi_swagger: install the extra `serving`"):
        docs_routes(FastAPI())


def test_start_of_the_service_imports_nothing_for_it():
    program = """
import sys
from fastapi import FastAPI
import serving.docs_page
app = FastAPI(docs_url=None)
before = set(sys.modules)
app.include_router(serving.docs_page.docs_routes(app))
print(sorted(set(sys.modules) - before))
"""
    told = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
