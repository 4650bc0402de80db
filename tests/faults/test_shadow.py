"""A release that gets a copy of the traffic and whose answers nobody reads: how it is, is nothing to the client."""

from collections.abc import Iterator

import psutil
import pytest

from headrace.domain.split import Split
from headrace.telemetry import ROLE_HEADER
from tests.contract.conftest import eventually
from tests.contract.traffic import Traffic, ask, client
from tests.faults.house import House

WATCHED = "watched"
PRIMARY, SHADOW, CANARY = 1, 2, 3
_COPIED = 0.9
"""Of 100 % that are asked for: Traefik counts a request and decides on its copy in two steps, and where two requests
overtake each other between these, one of them is not copied."""


@pytest.fixture
def watched(house: House) -> Iterator[House]:
    """With a model all of whose requests go to version 1, and as a copy to version 2."""
    house.stand_in(WATCHED, PRIMARY, SHADOW, heard="")
    house.split(WATCHED, Split(PRIMARY, shadow=SHADOW, shadow_pct=100))
    yield house
    house.forget(WATCHED)


def test_shadow_that_answers_nothing_delays_nobody(watched: House) -> None:
    held = watched.directory(WATCHED, SHADOW) / "held"
    held.touch()
    with Traffic(watched.url, WATCHED) as traffic:
        traffic.wait_for(100)
    # Whoever waited for the shadow would be waiting still.
    eventually(lambda: len(watched.heard(WATCHED, SHADOW)) >= _COPIED * traffic.total)
    held.unlink()
    assert traffic.lost == []
    assert set(traffic.answered) == {PRIMARY}
    assert len(watched.heard(WATCHED, PRIMARY)) == traffic.total


def test_shadow_that_hangs_for_long_piles_up_no_more_than_its_last_seconds(watched: House) -> None:
    """Traefik gives a copy up after 5 s: what it holds is bounded, however long the shadow hangs."""
    process = watched.process(f"{WATCHED}-v{SHADOW}")
    assert process
    held = watched.directory(WATCHED, SHADOW) / "held"
    held.touch()

    def count(status: str) -> int:
        return sum(one.status == status for one in process.net_connections())

    try:
        with Traffic(watched.url, WATCHED, client_count=2, pause_s=0.3) as traffic:
            # More have been given up than are waited for: from here on as many go as come.
            eventually(lambda: count(psutil.CONN_CLOSE_WAIT) > count(psutil.CONN_ESTABLISHED) > 1)
        # And without new ones, none is left; a health check may be.
        eventually(lambda: count(psutil.CONN_ESTABLISHED) <= 1)
    finally:
        held.unlink()
    assert traffic.lost == []
    assert set(traffic.answered) == {PRIMARY}


def test_dead_shadow_harms_nobody(watched: House) -> None:
    process = watched.process(f"{WATCHED}-v{SHADOW}")
    assert process
    with Traffic(watched.url, WATCHED) as traffic:
        traffic.wait_for(20)
        process.kill()
        watched.stop(WATCHED, SHADOW)
        traffic.mark()
        traffic.wait_for(100)
    assert traffic.lost == []
    assert set(traffic.answered) == {PRIMARY}


def test_shadow_is_told_that_it_is_one_and_hears_every_request_once(watched: House) -> None:
    with client(watched.url) as connection:
        for n in range(20):
            status, answer = ask(connection, WATCHED, X_Request_ID=f"r{n}", Headrace_Role="stable")
            assert status == 200
            assert answer["headers"][ROLE_HEADER.lower()] == "stable"
        eventually(lambda: len(watched.heard(WATCHED, SHADOW)) >= 20)
        # Pinned to the same version, it is a request like any other.
        status, answer = ask(connection, WATCHED, Headrace_Version=str(SHADOW), Headrace_Role="shadow")
        assert answer["version"] == SHADOW
        assert ROLE_HEADER.lower() not in answer["headers"]
    heard = watched.heard(WATCHED, SHADOW)[:20]
    assert {headers[ROLE_HEADER.lower()] for headers in heard} == {"shadow"}
    assert sorted(headers["x-request-id"] for headers in heard) == sorted(f"r{n}" for n in range(20))


def test_canary_that_dies_behind_a_mirror_costs_no_more_and_nothing_is_copied_twice(watched: House) -> None:
    watched.stand_in(WATCHED, CANARY)
    watched.split(WATCHED, Split(PRIMARY, CANARY, 50, shadow=SHADOW, shadow_pct=100))
    canary = watched.process(f"{WATCHED}-v{CANARY}")
    assert canary
    with Traffic(watched.url, WATCHED) as traffic:
        traffic.wait_for(50)
        canary.kill()
        traffic.mark()
        traffic.wait_for(200)
    print(f"lost {traffic.lost} of {traffic.total}")
    # What the canary had begun to read can't be sent again: one request a client at most.
    assert len(traffic.lost) <= traffic.client_count
    eventually(lambda: len(watched.heard(WATCHED, SHADOW)) >= _COPIED * (traffic.total - len(traffic.lost)))
    assert len(watched.heard(WATCHED, SHADOW)) <= traffic.total
