"""Bodies that are none, through the proxy to the real service: a small 4xx, and the next request is answered."""

import json

import pytest

from tests.contract.traffic import client, post
from tests.faults import raw
from tests.faults.house import MODEL, House

PATH = f"/v1/models/{MODEL}/predict"
ROWS_WITHIN_THE_PROXYS_LIMIT = b'{"rows":[' + b"{}," * 1_000_000 + b"{}]}"

BAD = {
    "empty": b"",
    "not JSON": b"rows=1",
    "cut off": b'{"rows": [{"wind_speed": 12.',
    "NUL": b"\0" * 100,
    "not UTF-8": b'{"rows": [{"carrier": "\xff\xfe"}]}',
    "lone surrogate": b'{"rows": [{"carrier": "\\ud800"}]}',
    "a hundred thousand deep": b'{"rows":' * 100_000,
    "integer of 5000 digits": b'{"rows": [{"distance": ' + b"9" * 5000 + b"}]}",
    "NaN": b'{"rows": [{"wind_speed": NaN}]}',
    "Infinity": b'{"rows": [{"wind_speed": -Infinity}]}',
    "two equal keys": b'{"rows": [], "rows": []}',
    "another form": b'{"instances": [[1, 2, 3]]}',
    "bad row ten thousand times": b'{"rows": [' + b'{"x": 1},' * 9_999 + b'{"x": 1}]}',
    "a million rows": ROWS_WITHIN_THE_PROXYS_LIMIT,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_bad_body_is_a_small_4xx_and_nothing_else_is_harmed(house: House, name: str, chunked: bool) -> None:
    body = BAD[name]
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    sent = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n" if chunked else body
    reply = raw.ask(house.url, raw.request(PATH, "Content-Type: application/json", length, body=sent))
    assert reply.status in (400, 413, 422)
    assert reply.size < 65_536
    assert json.loads(reply.body).keys() == {"error"}
    with client(house.url) as connection:
        assert post(connection, MODEL, house.body, Headrace_Version="3") == (200, 3)


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_body_of_41_mb_is_refused_by_the_proxy(house: House, declared: bool) -> None:
    before = house.answers()
    megabyte = b" " * 1_000_000
    if declared:
        sent = raw.request(PATH, "Content-Type: application/json", "Content-Length: 41000000", body=megabyte)
    else:
        chunks = b"%x\r\n%s\r\n" % (len(megabyte), megabyte) * 41 + b"0\r\n\r\n"
        sent = raw.request(PATH, "Content-Type: application/json", "Transfer-Encoding: chunked", body=chunks)
    reply = raw.ask(house.url, sent)
    assert reply.status == 413
    assert reply.size < 1000
    assert house.answers() == before
