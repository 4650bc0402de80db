"""The way in front of the app and the way through it are one service: the same answers, records and counts."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.loading import load
from tests.serving import oip
from tests.serving.asking import (
    INFER,
    JSON,
    NEVER,
    ROWS,
    Answered,
    Ways,
    ask,
    keeping_front,
    length,
    parts,
    ways,
)
from tests.serving.plain_bodies import requests, row_bodies, tensors

ID = (b"x-request-id", b"r-1")
MANY = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def models(directories) -> dict[str, Any]:
    return {task: load(directory) for task, directory in directories.items()}


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def both(request, models) -> Ways:
    return ways(models[request.param])


@pytest.fixture(scope="module")
def narrow(models) -> Ways:
    """With limits that small requests meet."""
    return ways(models["binary"], inline_rows=3, rows=4, body_bytes=700)


@MANY
@given(requests(row_bodies()))
def test_rows_are_answered_alike_both_ways(both, loop, request_):
    loop.run(both.ask(ROWS, *request_))


@MANY
@given(requests(row_bodies()))
def test_rows_beyond_the_limits_are_answered_alike_both_ways(narrow, loop, request_):
    loop.run(narrow.ask(ROWS, *request_))


@MANY
@given(st.data())
def test_tensors_are_answered_alike_both_ways(both, loop, make_rows, data):
    body, json_length = data.draw(tensors(make_rows(data.draw(st.sampled_from([1, 2, 60])))))
    loop.run(both.ask(INFER, *data.draw(requests(body, json_length))))


@MANY
@given(st.data())
def test_tensors_beyond_the_limits_are_answered_alike_both_ways(narrow, loop, make_rows, data):
    body, json_length = data.draw(tensors(make_rows(data.draw(st.integers(1, 5)))))
    loop.run(narrow.ask(INFER, *data.draw(requests(body, json_length))))


def plain(body: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [JSON, length(body), ID, *more]


@pytest.fixture
def body(make_rows) -> bytes:
    return json.dumps({"rows": make_rows(2)}).encode()


def test_plain_request_goes_in_front_of_the_app_and_others_through_it(models, loop, body):
    """Else the tests above would compare the app with itself."""
    one, kept = keeping_front(replace(models["binary"], inline_rows=50))
    through = []

    async def app(scope, receive, send) -> None:
        through.append(scope["path"])
        await ordinary(scope, receive, send)

    ordinary, one.release.app = one.release.app, app
    infer = json.dumps({"inputs": oip.json_inputs(json.loads(body)["rows"])}).encode()
    for path, sent in ((ROWS, body), (INFER, infer)):
        assert loop.run(ask(one, path, plain(sent), parts(sent, 10, 20))).status == 200
    assert through == []
    assert loop.run(ask(one, ROWS, plain(body, JSON), parts(body))).status == 200
    assert loop.run(ask(one, ROWS, [JSON, ID], parts(body))).status == 200
    assert through == [ROWS, ROWS]
    assert kept.statuses == [200] * 4


@pytest.mark.parametrize("path", [ROWS, INFER])
def test_keys_arrive_in_the_record(both, loop, make_rows, path):
    row = make_rows(1)[0] | {"flight_id": "UA 1", "decided_at": "2013-07-01T12:00:00Z"}
    body = json.dumps({"rows": [row, *make_rows(1)]}).encode()
    assert loop.run(both.ask(path, plain(body), parts(body))).status == (200 if path == ROWS else 400)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (ROWS, [(b"content-type", b"text/plain"), (b"content-length", b"9")], 415),
        (ROWS, [JSON, (b"content-length", b"9"), (b"content-encoding", b"gzip")], 415),
        (ROWS, [JSON, (b"content-length", b"41943040")], 413),
        (INFER, [(b"content-type", b"text/plain"), (b"content-length", b"9")], 415),
        (INFER, [JSON, (b"content-length", b"9"), (b"inference-header-content-length", b"-1")], 400),
    ],
)
def test_what_is_wrong_with_the_head_is_said_before_the_body_comes(models, loop, path, headers, status):
    patient = ways(models["binary"], body_timeout_s=3600)

    async def at_once() -> Answered:
        async with asyncio.timeout(20):
            return await patient.ask(path, [*headers, ID], [NEVER])

    assert loop.run(at_once()).status == status


def test_brackets_in_text_are_limited_alike_both_ways(narrow, loop, make_rows):
    row = make_rows(1)[0]
    for text, status in (("[" * 6, 200), ("{" * 6, 200), ("[" * 9, 413), ("{[" * 5, 413)):
        body = json.dumps({"rows": [row | {"gate": text}]}).encode()
        assert loop.run(narrow.ask(ROWS, plain(body), parts(body))).status == status


@pytest.mark.parametrize("lanes", [True, False])
def test_draining_service_asks_to_close_whatever_it_answers(models, loop, body, lanes):
    one, _ = keeping_front(models["binary"], lanes=lanes)
    one.service.drain()
    for path, sent in ((ROWS, body), (ROWS, b"{"), ("/v2/nothing", b"")):
        assert loop.run(ask(one, path, plain(sent), parts(sent))).header(b"connection") == b"close"


@pytest.mark.parametrize("lanes", [True, False])
@pytest.mark.parametrize(
    ("given", "taken"),
    [(b"mine-1._", True), (b"x" * 64, True), (b"x" * 65, False), (b"", False), (b"a b", False), (b"a\nb", False)],
)
def test_request_id_is_the_clients_if_it_is_short_and_plain(models, loop, body, lanes, given, taken):
    one, _ = keeping_front(models["binary"], lanes=lanes)
    headers = [JSON, length(body), (b"x-request-id", given)]
    named = loop.run(ask(one, ROWS, headers, parts(body))).header(b"x-request-id")
    assert named is not None
    assert (named == given) == taken
    assert taken or (len(named) == 32 and int(named, 16) >= 0)
