"""A service that hangs or has too much to do: its clients are told, and other models are none the worse."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace.domain.split import Split
from tests.contract.conftest import eventually
from tests.contract.traffic import Traffic, client, post, status
from tests.faults import raw
from tests.faults.house import MODEL, House

SLOW = "slow"
PATH = f"/v1/models/{SLOW}/predict"


@pytest.fixture(scope="module")
def slow(house: House) -> Iterator[House]:
    """With a model whose service takes two requests at a time."""
    house.stand_in(SLOW, 1, at_most="2", heard="")
    house.split(SLOW, Split(1))
    yield house
    house.forget(SLOW)


def test_busy_service_says_when_to_come_back_and_others_are_unaffected(slow: House) -> None:
    held = slow.directory(SLOW, 1) / "held"
    held.touch()
    with ThreadPoolExecutor(2) as clients:
        waiting = [clients.submit(status, slow.url, PATH) for _ in range(2)]
        try:
            eventually(lambda: len(slow.heard(SLOW, 1)) == 2)
            refused = [raw.ask(slow.url, raw.request(PATH, "Content-Length: 2", body=b"{}")) for _ in range(5)]
            with Traffic(slow.url, MODEL, body=slow.body) as traffic:
                traffic.wait_for(50)
            assert not any(one.done() for one in waiting)
        finally:
            held.unlink()
        assert [one.result() for one in waiting] == [200, 200]
    assert {reply.status for reply in refused} == {503}
    assert {reply.headers["retry-after"] for reply in refused} == {"1"}
    assert traffic.lost == []
    # Refused is refused: the proxy did not ask again on the client's behalf.
    assert len(slow.heard(SLOW, 1)) == 7


def test_frozen_service_is_taken_out_and_comes_back_and_others_are_unaffected(slow: House) -> None:
    process = slow.process("slow-v1")
    assert process

    def says(health: str) -> bool:
        return set(slow.held_by_traefik()["services"][f"{SLOW}-v1@file"]["serverStatus"].values()) == {health}

    process.suspend()
    try:
        with Traffic(slow.url, MODEL, body=slow.body) as traffic:
            eventually(lambda: says("DOWN"))
            reply = raw.ask(slow.url, raw.request(PATH, "Content-Length: 2", body=b"{}"))
            traffic.wait_for(50)
    finally:
        process.resume()
    assert reply.status == 503
    assert traffic.lost == []
    eventually(lambda: says("UP"))
    with client(slow.url) as connection:
        assert post(connection, SLOW) == (200, 1)
