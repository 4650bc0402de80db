"""What a request says about itself in its headers, and what of it is believed."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.context import ROLES, read_context

TRACE, PARENT = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
VALID = b"00-%s-%s-01" % (TRACE, PARENT)


def trace_of(header: bytes) -> bytes:
    return read_context({b"traceparent": header}).trace_id


def test_request_without_any_of_them_has_a_new_id_each_time_and_is_direct() -> None:
    ids = set()
    for _ in range(1000):
        found = read_context({b"content-type": b"application/json"})
        assert re.fullmatch(rb"[0-9a-f]{32}", found.request_id)
        assert (found.role, found.trace_id) == (0, b"")
        ids.add(found.request_id)
    assert len(ids) == 1000


@pytest.mark.parametrize("given_id", [b"a", b"A-b_c.9", b"x" * 64])
def test_short_and_plain_id_of_the_client_is_kept(given_id: bytes) -> None:
    assert read_context({b"x-request-id": given_id}).request_id == given_id


@given(st.binary(max_size=70))
def test_id_is_the_clients_or_a_new_one_and_always_plain(given_id: bytes) -> None:
    found = read_context({b"x-request-id": given_id}).request_id
    plain = 1 <= len(given_id) <= 64 and all(
        chr(one).isascii() and (chr(one).isalnum() or one in b"._-") for one in given_id
    )
    assert (found == given_id) == plain
    assert re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", found)


@pytest.mark.parametrize("given_id", [b"a\n", b"\na", b"a b", b"\xc3\xa9", b"a,b", b"a\r\nSet-Cookie: b"])
def test_id_that_could_be_more_than_a_name_is_replaced(given_id: bytes) -> None:
    assert read_context({b"x-request-id": given_id}).request_id != given_id


@pytest.mark.parametrize(("code", "role"), [*enumerate(ROLES)])
def test_role_is_its_position(code: int, role: str) -> None:
    assert read_context({b"headrace-role": role.encode()}).role == code


def test_codes_of_roles_stay_what_old_logs_mean_by_them() -> None:
    assert ROLES[:5] == ("direct", "stable", "canary", "shadow", "previous")


@pytest.mark.parametrize("role", [b"", b"Stable", b"stable ", b"boss", b"\xff", b"stable, canary"])
def test_role_that_is_none_is_direct(role: bytes) -> None:
    assert read_context({b"headrace-role": role}).role == 0


@pytest.mark.parametrize(
    "header",
    [
        VALID,
        b"00-%s-%s-00" % (TRACE, PARENT),
        b"cc-%s-%s-ff" % (TRACE, PARENT),
        VALID.replace(b"00-", b"01-", 1) + b"-more",
    ],
)
def test_trace_id_is_taken_from_a_trace_parent(header: bytes) -> None:
    assert trace_of(header) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"nonsense",
        VALID.upper(),
        VALID + b"-more",
        VALID + b"\n",
        b" " + VALID,
        VALID[:-1],
        b"ff" + VALID[2:],
        VALID.replace(TRACE, b"0" * 32),
        VALID.replace(PARENT, b"0" * 16),
        VALID.replace(b"-", b"_"),
        b"01" + VALID[2:] + b"more",
    ],
)
def test_what_is_no_trace_parent_gives_no_trace(header: bytes) -> None:
    assert trace_of(header) == b""


@given(st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z]{0,3})?", fullmatch=True))
def test_trace_parents_are_those_of_the_standard(header: bytes) -> None:
    version, trace, parent, _flags, *more = header.split(b"-")
    valid = version != b"ff" and trace != b"0" * 32 and parent != b"0" * 16 and not (version == b"00" and more)
    assert trace_of(header) == (trace if valid else b"")


def test_forked_process_gives_other_ids_than_its_parent() -> None:
    """Workers are forked from one process: with its random numbers, all would give the same ids."""
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writes, read_context({}).request_id)
        finally:
            os._exit(0)
    os.close(writes)
    theirs = os.read(reads, 100)
    os.close(reads)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(theirs) == 32
    assert read_context({}).request_id != theirs
