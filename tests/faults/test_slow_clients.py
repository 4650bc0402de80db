"""Clients that hold connections, or say how long they are in two ways: the proxy's business, never the service's.

The proxy closes after 5 s. The tests wait longer: how long it takes on a busy machine is not its doing.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.contract.traffic import client, post
from tests.faults import raw
from tests.faults.conftest import ECHO
from tests.faults.house import MODEL, House

DEADLINE_S = 15.0
CONNECTIONS = 2000
PATH = f"/v1/models/{MODEL}/predict"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()

SLOW = {
    "says nothing": (b"", b""),
    "stops in the first line": (HEAD[:8], b""),
    "stops in the header": (HEAD, b""),
    "header, byte by byte": (HEAD + b"X-Slow: ", b"x"),
    "header, line by line": (HEAD, b"X-Slow: 1\r\n"),
    "body never comes": (HEAD + b"Content-Length: 1000\r\n\r\n", b""),
    "body, byte by byte": (HEAD + b"Content-Length: 1000\r\n\r\n{", b" "),
    "body, chunk by chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n"),
}


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


# Without TLS as well Traefik takes HTTP/2 from who begins with it. A POST (\x83) by http (\x86), whose end never comes.
_FIELDS = b"\x83\x86\x44" + bytes([len(PATH)]) + PATH.encode() + b"\x41\x09localhost"
SLOW_HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, _FIELDS)


def kinds(received: bytes) -> set[int]:
    """The kinds of the HTTP/2 frames that came; 1 is the header of an answer, 3 the end of a request without one."""
    found = set()
    while len(received) >= 9:
        found.add(received[3])
        received = received[9 + int.from_bytes(received[:3], "big") :]
    return found


def answered(house: House) -> bool:
    with client(house.url) as connection:
        status, version = post(connection, MODEL, house.body)
    return status == 200 and version in (3, 4)


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """So many more files and sockets may be open in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"only {hard} descriptors are allowed here, {needed} are needed: see `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_slow_requests_are_closed_and_never_reach_the_service(house: House) -> None:
    before = house.answers()
    first = {name: first for name, (first, _) in SLOW.items()}
    with raw.connected(house.url) as http_2, raw.opened(house.url, first) as connections:
        http_2.sendall(SLOW_HTTP_2)
        assert answered(house)
        closed = raw.open_for_s(connections, DEADLINE_S, {name: drop for name, (_, drop) in SLOW.items() if drop})
        received = b""
        while not kinds(received) & {1, 3}:
            received += http_2.recv(65536) or pytest.fail("closed without an answer")
    print({name: round(seconds, 1) for name, seconds in closed.items()})
    assert closed.keys() == SLOW.keys()
    assert house.answers() == before + 1


def test_thousands_of_connections_disturb_nobody_and_are_closed(house: House) -> None:
    before = house.answers()
    services = [service for service in map(house.process, ("flight-delay-v3", "flight-delay-v4")) if service]
    assert len(services) == 2
    # Half of them say nothing, the others half of a request.
    first = {str(n): HEAD if n % 2 else b"" for n in range(CONNECTIONS)}
    with descriptors(CONNECTIONS), raw.opened(house.url, first) as connections:
        assert answered(house)
        assert sum(len(service.net_connections()) for service in services) < 50
        assert len(raw.open_for_s(connections, DEADLINE_S)) == CONNECTIONS
    assert answered(house)
    assert house.answers() == before + 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"X-Huge: {'a' * 60_000}"], 431),
        ([f"X-{n}: {'a' * 100}" for n in range(600)], 431),
        ([f"Headrace-Version: {'3' * 60_000}"], 431),
        (["Content-Length: 2", "Content-Length: 3"], 400),
        (["Content-Length: +2"], 400),
        (["Content-Length: 2, 3"], 400),
        (["Content-Length: 0x2"], 400),
        (["Content-Length: -2"], 400),
        (["Content-Length: 99999999999999999999"], 400),
        (["Transfer-Encoding: xchunked"], 501),
        (["Transfer-Encoding: chunked, identity"], 501),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 501),
        (["Transfer-Encoding: gzip, chunked", "Content-Length: 2"], 501),
        (["Transfer-Encoding : chunked", "Content-Length: 2"], 400),
        (["Transfer-Encoding: \x0bchunked", "Content-Length: 2"], 400),
        (["Content-Length: 2", " folded: line"], 400),
        (["No-Colon"], 400),
    ],
)
def test_unreasonable_headers_are_refused_and_never_reach_the_service(
    house: House, headers: list[str], status: int
) -> None:
    before = house.answers()
    reply = raw.ask(house.url, raw.request(PATH, "Content-Type: application/json", *headers, body=b"{}"))
    assert reply.status == status
    assert reply.size < 1000
    assert house.answers() == before


def test_of_two_lengths_the_chunks_count_and_the_service_sees_one(house: House) -> None:
    """RFC 9112 allows it: nothing of what follows can be taken for a request of its own by the service."""
    hidden = raw.request(f"/v1/models/{MODEL}/predict", "Content-Length: 2", body=b"{}")
    before = house.answers()
    for chunks, length in ((b"3\r\nabc\r\n0\r\n\r\n", b"3"), (b"0\r\n\r\n", b"0")):
        headers = ("Content-Length: 4", "Transfer-Encoding: chunked")
        reply = raw.ask(house.url, raw.request(f"/v1/models/{ECHO}/predict", *headers, body=chunks + hidden))
        assert reply.status == 200
        assert b'"content-length": "%s"' % length in reply.body
        assert b"transfer-encoding" not in reply.body
    assert house.answers() == before
