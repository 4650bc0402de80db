"""The Router port with a version that only gets copies, and with clients that stay with a version."""

import http.client
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie

import psutil
import pytest

from headrace.adapters.local.processes import Processes
from headrace.domain.split import Split
from headrace.errors import Unavailable
from headrace.telemetry import ROLE_HEADER
from tests.contract.conftest import MODEL, eventually
from tests.contract.routers import Harness, Local
from tests.contract.traffic import ask, client, post, visit

FENCE = "fence"


def role(headers: Mapping[str, str]) -> str | None:
    return headers.get(ROLE_HEADER.lower())


def names(local: Local, version: int) -> list[str]:
    """The ids of the requests that a version has heard of, in no order."""
    return sorted(headers["x-request-id"] for headers in local.heard(version))


def send(connection: http.client.HTTPConnection, *ids: str) -> list[tuple[int, str | None]]:
    """One request after the other; who answered, and as what."""
    answers = [ask(connection, MODEL, X_Request_ID=one)[1] for one in ids]
    return [(answer["version"], role(answer["headers"])) for answer in answers]


def test_shadow_is_read_back_beside_a_canary(harness: Harness) -> None:
    harness.run(3, 4, 5)
    split = Split(3, 4, 10, shadow=5, shadow_pct=40, sticky=True)
    route = harness.router.write(MODEL, split, seen=0, note="")
    assert route.split == split
    assert harness.router.read(MODEL) == route
    assert harness.router.drifted(MODEL) is None


def test_shadow_that_does_not_run_gets_no_copies(harness: Harness) -> None:
    harness.run(3)
    first = harness.router.write(MODEL, Split(3), seen=0, note="")
    with pytest.raises(Unavailable, match="v4 of flight_delay does not run"):
        harness.router.write(MODEL, Split(3, shadow=4, shadow_pct=100), seen=1, note="")
    assert harness.router.read(MODEL) == first


def test_shadow_gets_every_request_from_the_write_on_and_none_once_it_is_taken_away(local: Local) -> None:
    local.run(3)
    local.run(4, heard="")
    shadowed = Split(3, shadow=4, shadow_pct=100)
    wanted: list[str] = []
    with client(local.router.url(MODEL)) as connection:
        for turn in range(3):
            local.router.write(MODEL, shadowed, seen=2 * turn, note="")
            copied = [f"{turn}-{n}" for n in range(10)]
            wanted.extend(copied)
            assert send(connection, *copied) == [(3, "stable")] * 10
            eventually(lambda: len(local.heard(4)) >= len(wanted))
            local.router.write(MODEL, Split(3), seen=2 * turn + 1, note="")
            assert send(connection, *(f"{turn}-only-{n}" for n in range(10))) == [(3, "stable")] * 10
    assert names(local, 4) == sorted(wanted)
    assert {headers["content-length"] for headers in local.heard(4)} == {"12"}
    assert {role(headers) for headers in local.heard(4)} == {"shadow"}


def test_shadow_gets_its_share_of_what_stable_and_canary_answer(local: Local) -> None:
    local.run(3, 4)
    local.run(5, heard="")
    local.router.write(MODEL, Split(3, 4, 25, shadow=5, shadow_pct=50), seen=0, note="")
    with client(local.router.url(MODEL)) as connection:
        answered = send(connection, *(f"r{n}" for n in range(40)))
        assert sorted(answered) == [(3, "stable")] * 30 + [(4, "canary")] * 10
        eventually(lambda: len(local.heard(5)) >= 20)
        # Of two more, one is copied: what was on its way before it, has come.
        send(connection, FENCE, FENCE)
        eventually(lambda: FENCE in names(local, 5))
    assert len(local.heard(5)) == 21


def test_request_that_is_pinned_to_the_shadow_is_no_copy_and_is_not_copied(local: Local) -> None:
    local.run(3)
    local.run(4, heard="")
    local.router.write(MODEL, Split(3, shadow=4, shadow_pct=100), seen=0, note="")
    with client(local.router.url(MODEL)) as connection:
        status, answer = ask(connection, MODEL, Headrace_Version="4", X_Request_ID="pinned")
        assert (status, answer["version"], role(answer["headers"])) == (200, 4, None)
        assert ask(connection, MODEL, Headrace_Version="3", X_Request_ID="also pinned")[1]["version"] == 3
        ask(connection, MODEL, X_Request_ID=FENCE)
    eventually(lambda: FENCE in names(local, 4))
    assert names(local, 4) == [FENCE, "pinned"]


def test_copies_that_a_shadow_does_not_answer_are_given_up_long_before_requests_are(
    local: Local, processes: Processes
) -> None:
    local.run(3)
    local.run(4, heard="", held="")
    local.router.write(MODEL, Split(3, shadow=4, shadow_pct=100), seen=0, note="")
    shadow = psutil.Process(next(state.pid for state in processes.states() if state.name.endswith("v4")))

    def given_up() -> int:
        """Connections that Traefik has closed, and whose request is still under way."""
        return sum(one.status == psutil.CONN_CLOSE_WAIT for one in shadow.net_connections())

    def pinned() -> tuple[int, int]:
        with client(local.router.url(MODEL), timeout_s=60) as connection:
            return post(connection, MODEL, Headrace_Version="4", X_Request_ID="pinned")

    with ThreadPoolExecutor(1) as other, client(local.router.url(MODEL)) as connection:
        try:
            # A request that came before the copies is waited for: for 30 s.
            waiting = other.submit(pinned)
            eventually(lambda: len(local.heard(4)) == 1)
            send(connection, *"abcde")
            eventually(lambda: len(local.heard(4)) == 6)
            eventually(lambda: given_up() == 5)
            assert not waiting.done()
        finally:
            (local.directory(4) / "held").unlink()
        assert waiting.result() == (200, 4)


def kept(cookie: str) -> str:
    """What a client sends back of a cookie that it was told to keep."""
    [morsel] = SimpleCookie(cookie).values()
    return f"{morsel.key}={morsel.value}"


def clients(connection: http.client.HTTPConnection) -> dict[int, str]:
    """Of two clients that come anew and get a version each: version to cookie."""
    return {version: kept(cookie) for version, cookie in (visit(connection, MODEL) for _ in range(4))}


def answering(connection: http.client.HTTPConnection, cookie: str) -> set[int]:
    return {visit(connection, MODEL, cookie)[0] for _ in range(10)}


@pytest.mark.parametrize("copies", [{}, {"shadow": 5, "shadow_pct": 100}])
def test_client_with_a_cookie_stays_with_its_version_while_that_has_traffic(
    local: Local, copies: Mapping[str, int]
) -> None:
    local.run(3, 4, 5)
    local.router.write(MODEL, Split(3, 4, 50, sticky=True, **copies), seen=0, note="")
    with client(local.router.url(MODEL)) as connection:
        cookies = clients(connection)
        assert set(cookies) == {3, 4}
        for generation, pct in enumerate((1, 99, 10), start=1):
            local.router.write(MODEL, Split(3, 4, pct, sticky=True, **copies), seen=generation, note="")
            assert answering(connection, cookies[3]) == {3}
            assert answering(connection, cookies[4]) == {4}
        local.router.write(MODEL, Split(3, previous=4, sticky=True, **copies), seen=4, note="taken back")
        assert answering(connection, cookies[4]) == {3}
        version, cookie = visit(connection, MODEL, cookies[4])
        assert (version, kept(cookie)) == (3, cookies[3])


def test_cookie_is_the_models_own_and_no_scripts(local: Local) -> None:
    local.run(3)
    local.router.write(MODEL, Split(3, sticky=True), seen=0, note="")
    with client(local.router.url(MODEL)) as connection:
        [cookie] = SimpleCookie(visit(connection, MODEL)[1]).values()
    assert cookie.key == f"headrace_{MODEL}"
    assert cookie["httponly"]
    assert cookie["samesite"].lower() == "strict"
    assert cookie["path"] == "/"
    assert not cookie["max-age"]


def test_nobody_gets_a_cookie_or_is_held_by_one_when_clients_do_not_stay(local: Local) -> None:
    local.run(3, 4)
    local.router.write(MODEL, Split(3, 4, 50, sticky=True), seen=0, note="")
    with client(local.router.url(MODEL)) as connection:
        cookies = clients(connection)
        local.router.write(MODEL, Split(3, 4, 50), seen=1, note="")
        assert {visit(connection, MODEL)[1] for _ in range(4)} == {""}
        assert answering(connection, cookies[3]) == {3, 4}


def test_client_of_a_version_that_dies_gets_another(local: Local, processes: Processes) -> None:
    local.run(3, 4)
    local.router.write(MODEL, Split(3, 4, 50, sticky=True), seen=0, note="")
    with client(local.router.url(MODEL)) as connection:
        cookies = clients(connection)
    psutil.Process(next(state.pid for state in processes.states() if state.name.endswith("v4"))).kill()
    local.deployer.stop(MODEL, 4)
    answers: list[tuple[int, int]] = []

    def answered_by() -> int:
        with client(local.router.url(MODEL)) as connection:
            answers.append(post(connection, MODEL, Cookie=cookies[4]))
            return answers[-1][1]

    eventually(lambda: answered_by() == 3)
    print(f"before that: {answers[:-1]}")
    # Nobody is sent to the dead one any more.
    assert [answered_by() for _ in range(10)] == [3] * 10


def test_header_is_stronger_than_a_cookie_and_a_cookie_of_nobodys_is_none(local: Local) -> None:
    local.run(3, 4)
    local.router.write(MODEL, Split(3, 4, 50, sticky=True), seen=0, note="")
    with client(local.router.url(MODEL)) as connection:
        cookies = clients(connection)
        assert {post(connection, MODEL, Cookie=cookies[4], Headrace_Version="3") for _ in range(4)} == {(200, 3)}
        assert answering(connection, f"headrace_{MODEL}=nobody") == {3, 4}
