"""What a client says about itself, or says for the proxy, does not reach the service."""

import json

import pytest

from headrace.settings import HOST
from headrace.telemetry import ROLE_HEADER
from tests.faults import raw
from tests.faults.conftest import ECHO
from tests.faults.house import House

PATH = f"/v1/models/{ECHO}/predict"
FORWARDED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "4443",
    "X-Forwarded-Prefix": "/admin",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Server": "evil.example",
    "X-Forwarded-Uri": "/admin",
    "X-Forwarded-Method": "DELETE",
    "X-Forwarded-Tls-Client-Cert": "abc",
    "X-Forwarded-Tls-Client-Cert-Info": "abc",
    "X-Real-Ip": "203.0.113.7",
    "Forwarded": "for=203.0.113.7;host=evil.example",
}


def reached(house: House, *headers: str, host: str = "localhost", **how: str) -> dict[str, str]:
    """The headers that the service saw of a request."""
    reply = raw.ask(house.url, raw.request(PATH, "Content-Length: 2", *headers, body=b"{}", host=host, **how))
    assert reply.status == 200
    found: dict[str, str] = json.loads(reply.body)["headers"]
    return found


def test_forwarded_headers_are_the_proxys_own(house: House) -> None:
    seen = reached(house, *(f"{name}: {value}" for name, value in FORWARDED.items()))
    assert not set(FORWARDED.values()) & set(seen.values())
    assert seen["x-forwarded-for"] == HOST
    assert seen["x-real-ip"] == HOST


@pytest.mark.parametrize("name", ["Headrace_Role", "Headrace_Version", "X_Forwarded_For", "Headrace.Role", "Host_"])
def test_header_that_could_be_taken_for_another_is_refused(house: House, name: str) -> None:
    before = house.answers(ECHO)
    assert raw.ask(house.url, raw.request(PATH, "Content-Length: 2", f"{name}: 1", body=b"{}")).status == 400
    assert house.answers(ECHO) == before


@pytest.mark.parametrize("host", ["evil.example", "169.254.169.254", "localhost:1", "127.0.0.1@evil.example", ""])
def test_poisoned_host_never_reaches_the_service(house: House, host: str) -> None:
    reply = raw.ask(house.url, raw.request(PATH, "Content-Length: 2", body=b"{}", host=host))
    if reply.status != 400:
        own = house.address(ECHO, 1).removeprefix("http://")
        assert json.loads(reply.body)["headers"]["host"] == own
        assert not host or host.encode() not in reply.body


def test_two_hosts_and_a_host_that_is_none_are_refused(house: House) -> None:
    for headers, host in ((["Host: other"], "localhost"), ([], "a/b"), ([], "a b"), ([], "a\x7fb")):
        assert raw.ask(house.url, raw.request(PATH, *headers, host=host)).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        [f"{ROLE_HEADER}: shadow"],
        [f"{ROLE_HEADER}: canary", f"{ROLE_HEADER.upper()}: shadow"],
        [f"{ROLE_HEADER}: shadow", f"Connection: {ROLE_HEADER}"],
        [f"Connection: close, {ROLE_HEADER}, Upgrade", "Upgrade: h2c"],
    ],
)
def test_nobody_chooses_or_drops_the_role(house: House, headers: list[str]) -> None:
    assert reached(house, *headers)[ROLE_HEADER.lower()] == "stable"
    # A version that runs but has no part of the traffic has no role, and is not given one either.
    assert ROLE_HEADER.lower() not in reached(house, *headers, "Headrace-Version: 2")


def test_connection_is_not_the_clients_to_change(house: House) -> None:
    """The service would log what it can't do with an upgrade, a line for each request."""
    seen = reached(house, "Connection: Upgrade, HTTP2-Settings", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    assert not {"connection", "upgrade"} & seen.keys()


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "OPTIONS", "GET", "PUT", "DELETE", "PATCH", "BREW"])
def test_other_methods_are_nothing_but_refused(house: House, method: str) -> None:
    reply = raw.ask(house.url, raw.request("/v1/models/flight_delay/predict", method=method))
    assert reply.status in (400, 405, 501)
    assert reply.size < 1000
