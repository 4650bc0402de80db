"""Where a request's target leads: to the model that it names, or nowhere."""

import pytest

from tests.faults import raw
from tests.faults.conftest import ECHO
from tests.faults.house import MODEL, House

ECHOED = f"/v1/models/{ECHO}"
ELSEWHERE = [
    # Up, and into another model, the service's own pages or a file.
    f"{ECHOED}/../{MODEL}/predict",
    f"{ECHOED}/%2e%2e/{MODEL}/predict",
    f"{ECHOED}/%2E%2E/{MODEL}/predict",
    f"{ECHOED}/.%2e/{MODEL}/predict",
    f"{ECHOED}/%252e%252e/{MODEL}/predict",
    f"{ECHOED}/..%2f{MODEL}%2fpredict",
    f"{ECHOED}%2f..%2f{MODEL}%2fpredict",
    f"{ECHOED}/..%5c{MODEL}%5cpredict",
    f"{ECHOED}/..\\{MODEL}\\predict",
    f"{ECHOED}/..;/{MODEL}/predict",
    f"{ECHOED}/..%00/{MODEL}/predict",
    f"{ECHOED}/..%23/predict",
    f"{ECHOED}/..%3f/predict",
    f"{ECHOED}/%c0%ae%c0%ae/predict",
    f"{ECHOED}/../../../metrics",
    f"{ECHOED}/../../../v2/health/ready",
    f"{ECHOED}/../../../../../../etc/passwd",
    f"/../../..{ECHOED}/predict",
    f"/v1/models/./{ECHO}/predict",
    f"/v1/models/x/../{ECHO}/predict",
    f"/v1//models/{ECHO}/predict",
    f"//evil.example{ECHOED}/predict",
    f"/v1/models/{ECHO.upper()}/predict",
    f"/v2/models/{ECHO}/../../health/live",
    # Another thing than a path.
    f"http://127.0.0.1:1{ECHOED}/../{MODEL}/predict",
    "http://169.254.169.254/latest/meta-data/",
    "http://evil.example/",
    "file:///etc/passwd",
    f"{MODEL}",
    "*",
    "http://",
    f"{ECHOED}/predict HTTP/1.1 /x",
    "\\\\evil.example\\share",
]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_target_that_leads_elsewhere_is_refused_by_the_proxy(house: House, method: str) -> None:
    before = house.answers(), house.answers(ECHO)
    replies = {
        target: raw.ask(house.url, raw.request(target, "Content-Length: 2", body=b"{}", method=method))
        for target in ELSEWHERE
    }
    assert {target: r.status for target, r in replies.items() if r.status not in (400, 404) or r.size > 1000} == {}
    assert (house.answers(), house.answers(ECHO)) == before


def test_absolute_target_is_the_path_in_it_and_leads_to_no_other_host(house: House) -> None:
    reply = raw.ask(house.url, raw.request(f"http://evil.example{ECHOED}/predict", "Content-Length: 2", body=b"{}"))
    assert reply.status == 200
    assert f'"model": "{ECHO}"'.encode() in reply.body
    assert b"evil" not in reply.body


@pytest.mark.parametrize("query", ["?../../x", "?a=%2e%2e/%2f", "?model=flight_delay", "?%00", "?" + "a" * 5000])
def test_query_leads_nowhere(house: House, query: str) -> None:
    reply = raw.ask(house.url, raw.request(f"{ECHOED}/predict{query}", "Content-Length: 2", body=b"{}"))
    assert reply.status in (200, 400)
    assert reply.status == 400 or f'"model": "{ECHO}"'.encode() in reply.body
