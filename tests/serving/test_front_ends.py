"""However a request ends, it is answered and counted once, and gives its place back."""

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

ID = (b"x-request-id", b"r-1")
TRACE = (b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7")


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def models(directories) -> dict[str, Any]:
    return {"binary": load(directories["binary"])}


@pytest.fixture(scope="module")
def both(models) -> Ways:
    return ways(models["binary"])


@pytest.fixture
def body(make_rows) -> bytes:
    return json.dumps({"rows": make_rows(2)}).encode()


def plain(body: bytes) -> list[tuple[bytes, bytes]]:
    return [JSON, length(body), ID]


class Fails:
    """In the place of the model."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def run(self, matrix: np.ndarray) -> np.ndarray:
        if isinstance(self.answer, Exception):
            raise self.answer
        return np.resize(np.array(self.answer, dtype=np.float32), (len(matrix), 2))


def test_body_that_does_not_come_is_408_both_ways(models, loop, body):
    slow = ways(models["binary"], body_timeout_s=0.02)
    for coming in ([NEVER], [*parts(body, 10)[:1], NEVER], [PAUSE, *parts(body, 10)[:1], PAUSE, NEVER]):
        answer = loop.run(slow.ask(ROWS, plain(body), coming))
        assert (answer.status, answer.header(b"connection")) == (408, b"close")
        assert json.loads(answer.body) == {"error": "the body did not arrive within 0.02 s"}
    assert loop.run(slow.ask(ROWS, plain(body), parts(body))).status == 200


@pytest.mark.parametrize("before", [[], [PAUSE], ["part"], ["part", PAUSE], ["all"]])
def test_client_that_leaves_is_400_both_ways(both, loop, body, before):
    some = {"part": parts(body, 10)[0], "all": parts(body, len(body))[0]}
    coming = [some.get(one, one) for one in before]
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
        answered = loop.run(one.ask(path, [*plain(body), (b"traceparent", b"00-%s-%s-01" % TRACE)], parts(body)))
    assert answered.status == 500
    if isinstance(answer, Exception):
        assert [record.fields["kind"] for record in caplog.records] == ["RuntimeError"] * 2
        named = [(record.fields["request_id"], record.fields["trace_id"]) for record in caplog.records]
        assert named == [("r-1", TRACE[0].decode())] * 2
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


ENDS = st.sampled_from(["answered", "malformed", "slow", "leaves", "cancelled", "large", "other"])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ENDS, min_size=1, max_size=12), st.integers(1, 4), st.booleans())
def test_no_place_is_lost_whatever_happens_at_once(models, loop, make_rows, ends, in_flight, lanes):
    limits = Limits(in_flight=in_flight, body_timeout_s=0.01)
    one, kept = keeping_front(replace(models["binary"], inline_rows=2), limits, lanes)
    small, large = (json.dumps({"rows": make_rows(count)}).encode() for count in (1, 3))
    first, rest = parts(small, 10)
    coming = {
        "answered": (ROWS, [PAUSE, first, PAUSE, rest]),
        "malformed": (ROWS, [first, PAUSE, {**rest, "body": b"x" * len(rest["body"])}]),
        "slow": (ROWS, [first, NEVER]),
        "leaves": (ROWS, [PAUSE, first, PAUSE, GONE]),
        "cancelled": (ROWS, [first, NEVER]),
        "large": (ROWS, [PAUSE, *parts(large)]),
        "other": ("/v2/nothing", [first, rest]),
    }

    async def all_at_once() -> list[Any]:
        asked = []
        for end in ends:
            path, body = coming[end]
            asked.append(asyncio.create_task(ask(one, path, plain(large if end == "large" else small), body)))
        await asyncio.sleep(0)
        for end, task in zip(ends, asked, strict=True):
            if end == "cancelled":
                task.cancel()
        async with asyncio.timeout(20):
            return await asyncio.gather(*asked, return_exceptions=True)

    answers = loop.run(all_at_once())
    fitting = {"answered": 200, "malformed": 400, "slow": 408, "leaves": 400, "large": 200, "other": 404}
    for end, answer in zip(ends, answers, strict=True):
        if not isinstance(answer, asyncio.CancelledError):
            # On a busy machine any of them may be slow.
            assert answer.status in ((404,) if end == "other" else (fitting.get(end), 408, 503)), end
    assert (one.service.desk.in_flight, one.release.under_way) == (0, 0)
    counted = [answer.status for answer in answers if isinstance(answer, Answered) and answer.status != 404]
    assert sorted(kept.statuses) == sorted(counted)
