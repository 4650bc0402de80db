"""The bytes that Feast writes, read without Feast: equal to what its own classes make of them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from serving.feast_format import (
    UNREADABLE,
    decode,
    decode_hash,
    event_time_s,
    hash_field,
    key_prefix,
    key_suffix,
    timestamp_s,
)
from tests.serving.reading import exact

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(text=st.text(max_size=80), entity=st.from_regex(r"[a-z_]{1,20}", fullmatch=True))
def test_keys_are_feasts(text: str, entity: str) -> None:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=[entity], entity_values=[Value(string_val=text)])
    assert key_prefix(entity) + key_suffix(text) == serialize_entity_key(key, entity_key_serialization_version=3)


@given(st.text(max_size=20), st.text(max_size=20))
@example("v", "")
@example("", "ab")
def test_hash_fields_are_feasts(view: str, feature: str) -> None:
    from feast.infra.online_stores.helpers import _mmh3

    assert hash_field(view, feature) == _mmh3(f"{view}:{feature}")


@given(st.datetimes(datetime(1, 1, 1), datetime(4000, 1, 1), timezones=st.just(UTC)))
@example(EPOCH)
@example(datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
def test_times_in_a_hash_are_protobufs(moment: datetime) -> None:
    from google.protobuf.timestamp_pb2 import Timestamp

    stamp = Timestamp()
    stamp.FromDatetime(moment)
    assert timestamp_s(stamp.SerializeToString()) == (moment - EPOCH) // timedelta(microseconds=1) / 1e6


@given(st.binary(max_size=24))
@example(b"\x08" + b"\xff" * 10)
@example(b"\x10" + b"\xff" * 9 + b"\x01")
@example(b"\x08\x01\x08\x01")
def test_time_that_protobuf_does_not_write_is_refused_or_what_protobuf_makes_of_it(data: bytes) -> None:
    from google.protobuf.timestamp_pb2 import Timestamp

    try:
        ours = timestamp_s(data)
    except ValueError:
        return
    theirs = Timestamp.FromString(data)
    assert ours == (theirs.seconds * 1_000_000 + theirs.nanos // 1000) / 1e6


def test_values_without_a_time_are_refused_and_nothing_is_nothing() -> None:
    assert decode_hash(["a"], [None, None]) is None
    assert decode_hash(["a", "b"], [None, b"", b"\x08\x01"]) == ({"b": None}, 1.0)
    with pytest.raises(ValueError, match="values without a time"):
        decode_hash(["a"], [b"", None])
    with pytest.raises(ValueError, match="shorter"):
        decode_hash(["a"], [b"\x08\x01"])


VALUES = st.one_of(
    st.tuples(st.just("double_val"), st.floats()),
    st.tuples(st.just("float_val"), st.floats(width=32)),
    st.tuples(st.just("int64_val"), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just("int32_val"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("bool_val"), st.booleans()),
    st.tuples(st.just("string_val"), st.text()),
)


@given(VALUES)
def test_values_are_feasts(value: tuple[str, object]) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    (field, given_value) = value
    assert exact(decode(Value(**{field: given_value}).SerializeToString())) == exact(given_value)


@given(
    st.one_of(
        st.binary(max_size=24),
        # Bytes that begin as a value does.
        st.builds(
            bytes.__add__,
            st.sampled_from([b"\x12", b"\x18", b"\x20", b"\x29", b"\x35", b"\x38", b"\x98"]),
            st.binary(max_size=16),
        ),
    )
)
@example(b"\x12" + b"\xa0" + b"\x80" * 9 + b"a" * 20)
@example(b"\x20" + b"\xff" * 9 + b"\x7f")
@example(b"\x38\x02")
@example(b"\x29" + bytes(8) + b"\x29" + bytes(8))
def test_bytes_that_feast_did_not_write_are_unreadable_or_what_protobuf_makes_of_them(data: bytes) -> None:
    from feast.protos.feast.types.Value_pb2 import Value
    from google.protobuf.message import DecodeError

    ours = decode(data)
    if ours is UNREADABLE:
        return
    try:
        theirs = Value.FromString(data)
    except DecodeError:
        pytest.fail(f"protobuf refuses what we take for {ours!r}")
    field = theirs.WhichOneof("val")
    assert exact(ours) == exact(None if field in (None, "null_val") else getattr(theirs, field))


@pytest.mark.parametrize("value", [{"bytes_val": b"x"}, {"unix_timestamp_val": 7}, {"double_list_val": {"val": [1.0]}}])
def test_types_that_no_contract_has_are_unreadable(value: dict[str, object]) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    assert decode(Value(**value).SerializeToString()) is UNREADABLE
    assert decode(Value(null_val=0).SerializeToString()) is None


ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """The machine's time zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


def test_times_are_what_feast_meant_in_any_time_zone(zone: ZoneInfo) -> None:
    from feast.infra.online_stores.sqlite import adapt_datetime_epoch
    from feast.utils import to_naive_utc

    @given(st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)))
    @example(datetime(2013, 11, 3, 1, 30, tzinfo=UTC))
    def check(moment: datetime) -> None:
        digits = moment.replace(tzinfo=zone)
        # An hour of a year is on no clock, and Feast itself reads it as the next.
        assume(digits.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == digits.replace(tzinfo=None))
        assert event_time_s(adapt_datetime_epoch(to_naive_utc(moment))) == moment.replace(microsecond=0).timestamp()

    check()
