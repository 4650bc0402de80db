"""Questions over loopback: half an answer is none."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from headrace.adapters.local import loopback
from headrace.settings import HOST

Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answers one request with these bytes, and closes the connection; the address."""
    listener = socket.create_server((HOST, 0))
    threads: list[threading.Thread] = []

    def answer(content: bytes) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(content)

    def start(content: bytes) -> str:
        threads.append(threading.Thread(target=answer, args=(content,)))
        threads[-1].start()
        return f"http://{HOST}:{listener.getsockname()[1]}/metrics"

    with listener:
        yield start
        for thread in threads:
            thread.join()


def test_whole_answer_is_one(serve: Serve) -> None:
    url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
    assert loopback.get(url, 5.0) == loopback.Answer(200, b"a 1\n")


def test_answer_that_breaks_off_is_none(serve: Serve) -> None:
    assert loopback.get(serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\na 1\n"), 5.0) is None


def test_answer_without_a_length_ends_with_the_connection(serve: Serve) -> None:
    assert loopback.get(serve(b"HTTP/1.0 200 OK\r\n\r\na 1\n"), 5.0) == loopback.Answer(200, b"a 1\n")
