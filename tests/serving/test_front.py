"""The way in front of the app and the way through it are one service: the same answers, records and counts."""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serving.app import front
from serving.desk import Desk
from serving.limits import Limits
from serving.loading import load
from tests.serving import oip
from tests.serving.asking import (
    GONE,
    INFER,
    JSON,
    NEVER,
    PAUSE,
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


class Fails:
    """In the place of the model."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def run(self, matrix: np.ndarray) -> np.ndarray:
        if isinstance(self.answer, Exception):
            raise self.answer
        return np.resize(np.array(self.answer, dtype=np.float32), (len(matrix), 2))


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


def test_body_that_does_not_come_is_408_both_ways(models, loop, body):
    slow = ways(models["binary"], body_timeout_s=0.02)
    for coming in ([NEVER], [*parts(body, 10)[:1], NEVER], [PAUSE, *parts(body, 10)[:1], PAUSE, NEVER]):
        answer = loop.run(slow.ask(ROWS, plain(body), coming))
        assert (answer.status, answer.header(b"connection")) == (408, b"close")
        assert json.loads(answer.body) == {"error": "the body did not arrive within 0.02 s"}
    assert loop.run(slow.ask(ROWS, plain(body), parts(body))).status == 200


@pytest.mark.parametrize("before", [[], [PAUSE], ["part"], ["part", PAUSE]])
def test_client_that_leaves_is_400_both_ways(both, loop, body, before):
    coming = [parts(body, 10)[0] if one == "part" else one for one in before]
    answer = loop.run(both.ask(ROWS, plain(body), [*coming, GONE]))
    assert (answer.status, json.loads(answer.body)) == (400, {"error": "the body broke off"})


@pytest.mark.parametrize("lanes", [True, False])
def test_request_that_is_cancelled_gives_its_place_back(models, loop, body, lanes):
    one, kept = keeping_front(models["binary"], Limits(body_timeout_s=60), lanes=lanes)

    async def leave() -> None:
        waits = asyncio.create_task(ask(one, ROWS, plain(body), [*parts(body, 10)[:1], NEVER]))
        await until(lambda: one.service.desk.in_flight == 1)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits

    loop.run(leave())
    assert (one.service.desk.in_flight, one.release.under_way, kept.statuses) == (0, 0, [])


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def test_full_service_is_503_with_retry_after_both_ways(models, loop, body):
    full = ways(models["binary"], in_flight=1, body_timeout_s=60)

    async def ask_while_full(one: Any) -> tuple[Answered, Answered]:
        end = asyncio.Event()
        first, rest = parts(body, 10)

        async def slowly() -> Any:
            await end.wait()
            return rest

        waits = asyncio.create_task(ask(one, ROWS, plain(body), [first, slowly]))
        await until(lambda: one.service.desk.full)
        refused = await ask(one, ROWS, plain(body), parts(body))
        end.set()
        return refused, await waits

    fast, ordinary = loop.run(ask_while_full(full.fast)), loop.run(ask_while_full(full.plain))
    assert fast == ordinary
    refused, answered = fast
    assert (refused.status, refused.header(b"retry-after"), answered.status) == (503, b"1", 200)
    assert full.fast.service.desk.in_flight == full.plain.service.desk.in_flight == 0


@pytest.mark.parametrize("inline_rows", [50, 0], ids=["on the loop", "in the thread"])
@pytest.mark.parametrize("path", [ROWS, INFER])
@pytest.mark.parametrize(
    "answer",
    [RuntimeError("secret"), np.nan, [0.0, 1.0, 0.0, np.inf], -np.inf],
    ids=["raises", "nan", "second row", "-inf"],
)
def test_model_that_fails_is_one_500_both_ways(models, loop, make_rows, path, answer, inline_rows, caplog):
    rows = make_rows(2)
    document = {"rows": rows} if path == ROWS else {"inputs": oip.json_inputs(rows)}
    body = json.dumps(document).encode()
    one = ways(replace(models["binary"], session=Fails(answer)), inline_rows)
    with caplog.at_level(logging.ERROR):
        answered = loop.run(one.ask(path, plain(body), parts(body)))
    assert answered.status == 500
    if isinstance(answer, Exception):
        assert [record.fields["kind"] for record in caplog.records] == ["RuntimeError"] * 2
        assert "secret" not in answered.body.decode() + caplog.text
    else:
        row = 1 if isinstance(answer, list) else 0
        assert json.loads(answered.body) == {"error": f"the model has no finite answer for rows[{row}]"}


@pytest.mark.parametrize("lanes", [True, False])
def test_whatever_ends_a_request_is_counted_once(models, loop, body, lanes):
    model = replace(models["binary"], inline_rows=50)
    one = front(model, Desk(Limits(body_timeout_s=0.02, in_flight=1)))
    if not lanes:
        one.release.lanes = {}

    def statuses(*coming: Any, session: Any = None) -> int:
        object.__setattr__(one.service, "model", replace(model, session=session) if session else model)
        return loop.run(ask(one, ROWS, plain(body), coming)).status

    whole = parts(body)
    assert statuses(*whole) == 200
    assert statuses(NEVER) == 408
    assert statuses(GONE) == 400
    assert statuses(*whole, session=Fails(np.nan)) == 500
    assert statuses(*whole, session=Fails(RuntimeError())) == 500
    one.service.recorder.seal()
    samples = {
        (sample.name, tuple(sample.labels[name] for name in ("status", "kind") if name in sample.labels)): sample.value
        for family in text_string_to_metric_families(one.service.desk.families.exposition().decode())
        for sample in family.samples
    }
    assert {key[1]: value for key, value in samples.items() if key[0] == "headrace_requests_total"} == {
        ("200",): 1,
        ("400",): 1,
        ("408",): 1,
        ("500",): 2,
    }
    assert {key[1]: value for key, value in samples.items() if key[0] == "headrace_refusals_total"} == {
        ("invalid",): 1,
        ("slow_body",): 1,
        ("model",): 2,
    }
    assert samples[("headrace_rows_total", ())] == 2
    assert samples[("headrace_nonfinite_outputs_total", ())] == 2
    assert samples[("headrace_request_duration_seconds_count", ())] == 5
    assert one.service.desk.in_flight == 0


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
