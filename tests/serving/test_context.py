"""What a request says of itself: its id, the role that the proxy gave this version, and its W3C trace."""

import string
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.context import ROLES, read_context

TRACE, PARENT = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
GOOD = b"00-" + TRACE + b"-" + PARENT + b"-01"


@pytest.mark.parametrize(
    "given",
    [
        GOOD,
        b"00-" + TRACE + b"-" + PARENT + b"-ff",
        b"01-" + TRACE + b"-" + PARENT + b"-01",
        b"cc-" + TRACE + b"-" + PARENT + b"-01-what-the-future-brings",
        b"fe-" + TRACE + b"-" + PARENT + b"-00-",
    ],
)
def test_trace_of_this_and_of_later_versions_is_known(given):
    assert read_context({b"traceparent": given}).trace_id == TRACE


@pytest.mark.parametrize(
    "given",
    [
        b"",
        GOOD + b"-more",
        GOOD + b"-",
        GOOD + b" ",
        b" " + GOOD,
        GOOD[:-1],
        GOOD.upper(),
        b"ff" + GOOD[2:],
        b"0x" + GOOD[2:],
        b"cc" + GOOD[2:] + b".more",
        b"00-" + b"0" * 32 + b"-" + PARENT + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        b"00-" + TRACE[:-1] + b"-" + PARENT + b"-01",
        GOOD + b"," + GOOD,
        b"\xff" * 55,
    ],
)
def test_what_is_no_traceparent_is_no_trace(given):
    assert read_context({b"traceparent": given}).trace_id == b""


def is_hexadecimal(text: str, digits: int) -> bool:
    return len(text) == digits and set(text) <= set("0123456789abcdef")


def trace_of(given: str) -> str:
    """The trace id by the words of the specification, for comparison."""
    version, *parts = given.split("-")
    if not is_hexadecimal(version, 2) or version == "ff" or len(parts) < 3 or (version == "00" and len(parts) > 3):
        return ""
    trace, parent, flags = parts[:3]
    fields = is_hexadecimal(trace, 32) and is_hexadecimal(parent, 16) and is_hexadecimal(flags, 2)
    return trace if fields and set(trace) != {"0"} and set(parent) != {"0"} else ""


DIGITS = "0123456789abcdefABg"
FIELDS = st.tuples(
    st.one_of(st.sampled_from(["00", "00", "01", "ff"]), st.text(DIGITS, min_size=2, max_size=2)),
    st.one_of(st.sampled_from([TRACE.decode(), "0" * 32]), st.text(DIGITS, min_size=31, max_size=33)),
    st.one_of(st.sampled_from([PARENT.decode(), "0" * 16]), st.text(DIGITS, min_size=15, max_size=17)),
    st.sampled_from(["00", "01", "0", "zz", "ff"]),
)


@given(FIELDS, st.lists(st.text(string.printable, max_size=4), max_size=2))
def test_traceparent_is_read_as_the_specification_says(fields, more):
    given_ = "-".join([*fields, *more])
    assert read_context({b"traceparent": given_.encode()}).trace_id == trace_of(given_).encode()


@given(st.dictionaries(st.sampled_from([b"x-request-id", b"traceparent", b"headrace-role"]), st.binary(max_size=80)))
def test_whatever_the_headers_are_a_context_fits_the_log(headers):
    context = read_context(headers)
    assert 1 <= len(context.request_id) <= 64
    assert set(context.request_id.decode()) <= set(string.ascii_letters + string.digits + "._-")
    assert 0 <= context.role < len(ROLES)
    assert context.trace_id == b"" or is_hexadecimal(context.trace_id.decode(), 32)


@pytest.mark.parametrize("role", ROLES)
def test_role_is_the_proxys(role):
    assert ROLES[read_context({b"headrace-role": role.encode()}).role] == role


@pytest.mark.parametrize("given", [b"", b"Canary", b"boss", b"canary,stable", b"\xff"])
def test_role_that_no_proxy_gives_is_direct(given):
    assert ROLES[read_context({b"headrace-role": given}).role] == "direct"


def test_new_ids_differ_also_in_forked_processes():
    """The workers are forks of one process, with one state of everything at first."""
    program = """
import os
from serving.context import read_context
for _ in range(2):
    if os.fork():
        os.wait()
    print(read_context({}).request_id.decode(), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    # The first fork forks as well: two of the first, four of the second.
    assert len(set(done.stdout.split())) == 6
