"""The Redis of the online store, whatever becomes of it while it is read."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import pytest

from serving import feast_redis
from serving.completion import Completed, Completion
from serving.feast_format import UNREADABLE, hash_field, hash_time_field
from serving.online_store import Asked, Found, Stored, open_store
from tests import databases
from tests.serving.completing import JFK, MAX_AGE_H, N1, NO_DEPARTURES, NO_PLANE, NOON, completing, contract
from tests.serving.online_hash import OnlineHash
from tests.serving.reading import Read, reading

PLANES, DEPARTURES = frozenset(N1), frozenset(JFK)
N1_ASKED = Asked("planes", "tail", ["N1"], PLANES)
N1_STORED = Stored(N1, NOON.timestamp())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[databases.Redis]:
    """A Redis for the tests of this file."""
    with databases.redis(tmp_path_factory.mktemp("redis")) as started:
        yield started


def fill(server: databases.Redis) -> OnlineHash:
    """An airport and a plane, known at noon, and nothing else."""
    with server.client() as client:
        client.flushall()
    online = OnlineHash(server)
    online.put("departures", "origin", "JFK", NOON, **JFK)
    online.put("planes", "tail", "N1", NOON, **N1)
    return online


@pytest.fixture
def online(server: databases.Redis) -> OnlineHash:
    """A store with values."""
    return fill(server)


@pytest.fixture
def read(online: OnlineHash) -> Iterator[Read]:
    """Reads it."""
    with reading(online.url) as reader:
        yield reader


@contextlib.contextmanager
def killed(online: OnlineHash) -> Iterator[None]:
    online.server.stop()
    try:
        yield
    finally:
        online.server.start()
        fill(online.server)


@contextlib.contextmanager
def frozen(online: OnlineHash) -> Iterator[None]:
    with online.server.frozen():
        yield


@contextlib.contextmanager
def another_password(online: OnlineHash) -> Iterator[None]:
    with online.server.client() as client:
        client.config_set("requirepass", "another")
        client.client_kill_filter(_type="normal", skipme=True)
        yield
        client.config_set("requirepass", online.server.password)


@pytest.mark.parametrize("fault", [killed, frozen, another_password], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("already_open", [False, True])
def test_store_that_fails_is_answered_by_policy_within_the_deadline_and_heals(
    online: OnlineHash, fault: Any, already_open: bool
) -> None:
    rows = [{"origin": "JFK", "tail": "N1"}, {"tail": "N1"}]
    with completing(online) as complete:
        if already_open:
            assert complete({"tail": "N1"}).fallbacks == {}
        with fault(online):
            # Without a deadline that is kept this would never end.
            completed = complete(*rows, deadline_s=0.05)
            refused = complete({"tail": "N1"}, deadline_s=0.05, fallback="refuse")
        assert completed.fallbacks == {("departures", "unreadable"): 1, ("planes", "unreadable"): 2}
        assert rows == [{"origin": "JFK", "tail": "N1", **NO_DEPARTURES, **NO_PLANE}, {"tail": "N1", **NO_PLANE}]
        assert refused.refused == ["rows[0]: view 'planes' could not be read"]
        row = {"origin": "JFK", "tail": "N1"}
        assert complete(row).fallbacks == {}
        assert row == {"origin": "JFK", "tail": "N1", **JFK, **N1}


def test_connection_that_the_server_has_closed_costs_no_request_its_values(online: OnlineHash, read: Read) -> None:
    read(N1_ASKED)
    with online.server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert read(N1_ASKED) == [{"N1": N1_STORED}]


def in_one_loop(url: str, run: Callable[[feast_redis.FeastRedisStore], Any]) -> Any:
    async def run_and_close() -> Any:
        store = open_store(url)
        assert isinstance(store, feast_redis.FeastRedisStore)
        try:
            return await run(store)
        finally:
            store.close()

    return asyncio.run(run_and_close())


def test_while_it_does_not_answer_one_read_waits_for_it_and_the_others_do_not(online: OnlineHash) -> None:
    async def run(store: feast_redis.FeastRedisStore) -> Sequence[Found]:
        with online.server.frozen():
            assert await store.read([N1_ASKED], time.monotonic() + 0.05) == [{}]
            trying = asyncio.create_task(store.read([N1_ASKED], time.monotonic() + 600))
            await asyncio.sleep(0)
            for _ in range(100):
                assert await store.read([N1_ASKED], time.monotonic() + 600) == [{}]
            assert not trying.done()
        await trying
        assert await store.read([N1_ASKED], time.monotonic() + 60) == [{"N1": N1_STORED}]
        return trying.result()

    assert in_one_loop(online.url, run) == [{"N1": N1_STORED}]


def test_request_that_is_abandoned_takes_no_others_answer(online: OnlineHash) -> None:
    async def run(store: feast_redis.FeastRedisStore) -> Sequence[Found]:
        await store.read([N1_ASKED], time.monotonic() + 60)
        with online.server.frozen():
            abandoned = asyncio.create_task(store.read([N1_ASKED], time.monotonic() + 600))
            await asyncio.sleep(0)
            abandoned.cancel()
            await asyncio.gather(abandoned, return_exceptions=True)
        asked = Asked("departures", "origin", ["JFK"], DEPARTURES)
        return await store.read([asked], time.monotonic() + 60)

    assert in_one_loop(online.url, run) == [{"JFK": Stored(JFK, NOON.timestamp())}]


def test_readers_take_turns_without_mixing_up_and_leave_few_connections(online: OnlineHash) -> None:
    async def run(store: feast_redis.FeastRedisStore) -> tuple[list[Sequence[Found]], int]:
        asked = [N1_ASKED, Asked("departures", "origin", ["JFK", "LGA"], DEPARTURES)]
        found = await asyncio.gather(*(store.read(asked, time.monotonic() + 60) for _ in range(50)))
        # The connections that were closed have been noticed when a read that came after them is answered.
        await store.read(asked, time.monotonic() + 60)
        with online.server.client() as client:
            return found, len(client.client_list()) - 1

    found, connections = in_one_loop(online.url, run)
    assert found == [[{"N1": N1_STORED}, {"JFK": Stored(JFK, NOON.timestamp()), "LGA": None}]] * 50
    assert connections <= feast_redis.KEPT


def test_request_is_one_round_trip(online: OnlineHash, read: Read) -> None:
    asked = [Asked(view, "origin", [f"A{number}" for number in range(20)], DEPARTURES) for view in ("a", "departures")]
    read(*asked)
    with online.server.client() as client:
        before = client.info("stats")["total_reads_processed"]
        read(*asked)
        after = client.info("stats")["total_reads_processed"]
    # One of them is that of asking for the number.
    assert after - before == 2


def test_many_keys_are_all_found_and_others_have_a_turn(online: OnlineHash, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feast_redis, "AT_ONCE", 3)
    names = [f"N{number}" for number in range(10)]
    for number, name in enumerate(names):
        online.put("planes", "tail", name, NOON, seat_count=number)
    turns = 0

    async def run(store: feast_redis.FeastRedisStore) -> Sequence[Found]:
        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        background = asyncio.create_task(others())
        found = await store.read([Asked("planes", "tail", names, PLANES)], time.monotonic() + 60)
        background.cancel()
        return found

    (found,) = in_one_loop(online.url, run)
    assert {name: stored.values["seat_count"] for name, stored in found.items()} == dict(
        zip(names, range(10), strict=True)
    )
    assert turns >= len(names) // 3


def test_database_without_values_has_none_and_is_readable(online: OnlineHash) -> None:
    for url in (f"{online.server.url(5)}?project=tests", f"{online.server.url()}?project=another"):
        with reading(url) as read:
            assert read(N1_ASKED) == [{"N1": None}]


def test_database_that_is_not_there_can_not_be_read(online: OnlineHash, caplog: pytest.LogCaptureFixture) -> None:
    with reading(f"{online.server.url(99)}?project=tests") as read:
        assert read(N1_ASKED) == [{}]
    assert "out of range" in caplog.records[-1].fields["why"]


def test_value_that_is_too_old_is_not_used(online: OnlineHash) -> None:
    row = {"tail": "N1"}
    with completing(online) as complete:
        assert complete(row, at_h=MAX_AGE_H + 1 / 3600).fallbacks == {("planes", "stale"): 1}
    assert row == {"tail": "N1", **NO_PLANE}


SPOILT: dict[str, Callable[[Any, bytes], object]] = {
    "no hash": lambda client, key: client.delete(key) and client.set(key, "text"),
    "no time": lambda client, key: client.hdel(key, hash_time_field("planes")),
    "another time": lambda client, key: client.hset(key, hash_time_field("planes"), b"\xff\xff"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_key_that_feast_did_not_write_is_not_read_and_the_others_are(online: OnlineHash, read: Read, how: str) -> None:
    online.put("planes", "tail", "N2", NOON, **N1)
    with online.server.client() as client:
        SPOILT[how](client, online.key("tail", "N2"))
    asked = Asked("planes", "tail", ["N2", "N1"], PLANES)
    assert read(asked, N1_ASKED) == [{"N1": N1_STORED}, {"N1": N1_STORED}]


def test_value_that_feast_did_not_write_is_unreadable_and_one_that_is_not_there_absent(
    online: OnlineHash, read: Read
) -> None:
    with online.server.client() as client:
        client.hset(online.key("tail", "N1"), hash_field("planes", "seat_count"), b"\xff")
        client.hdel(online.key("tail", "N1"), hash_field("planes", "maker"))
    assert read(N1_ASKED)[0]["N1"].values == {"seat_count": UNREADABLE, "is_leased": True}


def test_versions_that_want_other_features_read_the_same_store(online: OnlineHash, read: Read) -> None:
    assert read(N1_ASKED._replace(features=frozenset({"maker"})))[0]["N1"].values == {"maker": "Airbus"}
    assert read(N1_ASKED)[0]["N1"].values == N1


def test_trouble_is_logged_once_with_its_reason_and_without_password_or_key(
    online: OnlineHash, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = online.url.replace(quote(online.server.password, safe=""), "planted")
    with reading(wrong) as read:
        for _ in range(20):
            assert read(N1_ASKED) == [{}]
    (record,) = caplog.records
    assert record.getMessage() == "online store not read"
    assert record.fields == {
        "store": f"redis://127.0.0.1:{online.server.port}/0",
        "why": "invalid username-password pair or user is disabled.",
    }


def test_deadline_that_has_passed_finds_nothing(online: OnlineHash, read: Read) -> None:
    assert read(N1_ASKED, deadline_s=-1) == [{}]
    assert read(N1_ASKED) == [{"N1": N1_STORED}]


def test_service_that_waits_for_it_does_other_work_meanwhile(online: OnlineHash) -> None:
    async def run(store: feast_redis.FeastRedisStore) -> Completed:
        completion = Completion(contract(), store, 600, lambda: NOON)
        with online.server.frozen():
            waiting = asyncio.create_task(completion.complete([{"tail": "N1"}]))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not waiting.done()
        return await waiting

    assert in_one_loop(online.url, run).fallbacks == {}


def test_with_tls_the_servers_certificate_and_name_are_checked() -> None:
    store = open_store("rediss://h/0?project=p")
    assert isinstance(store, feast_redis.FeastRedisStore)
    context = store._connection().ssl_context.get()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
