"""The bytes in which Feast 0.67 keeps an online value, without Feast: its import takes seconds and 200 MB.

Keys are Feast's entity keys, serialisation version 3; values are its `ValueProto`, a protobuf message with one field.
A property test holds both equal to what Feast's own classes say.
"""

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

UNREADABLE = object()
"""A value that is there and is none of those that the service knows."""

_STRING = 2  # ValueType.STRING
_U32 = struct.Struct("<I").pack

# A field's tag is its number and how its bytes are written; the numbers are those of feast/types/Value.proto.
_DOUBLE_TAG = 5 << 3 | 1
_DOUBLE = struct.Struct("<xd")
_FLOAT = struct.Struct("<xf")
_NULL = b"\x98\x01\x00"
_SECONDS_TAG, _NANOS_TAG = b"\x08", b"\x10"
_MOST_SECONDS = 1 << 36
_MASK = 0xFFFFFFFF


def key_prefix(entity: str) -> bytes:
    """What all keys of one join key, a text, have in common; `key_suffix` of the key's own value follows."""
    name = entity.encode()
    return _U32(1) + _U32(_STRING) + _U32(len(name)) + name + _U32(_STRING)


def key_suffix(key: str) -> bytes:
    """The rest of a key; see `key_prefix`."""
    text = key.encode("utf-8", "surrogatepass")
    return _U32(len(text)) + text


def decode_rows(rows: Sequence[tuple[Any, Any, Any]]) -> tuple[dict[str, Any], float]:
    """What a view holds for one key.

    Args:
        rows: feature, serialised `ValueProto` and time; one at least.

    Returns:
        The values of the newest time, and that time as `event_time_s` has it. A feature that has only an older one was
        not written with the others: it was null then, and has no value now.

    Raises:
        TypeError, ValueError, OverflowError, OSError: Feast writes no such rows.
    """
    values: dict[str, Any] = {}
    newest = rows[0][2]
    for feature, blob, at in rows:
        if at != newest:
            if at < newest:
                continue
            values, newest = {}, at
        # `decode` does the same for a float, but to call it costs as much as the rest of the loop.
        if len(blob) == _DOUBLE.size and blob[0] == _DOUBLE_TAG:
            values[feature] = _DOUBLE.unpack(blob)[0]
        else:
            values[feature] = decode(blob)
    return values, event_time_s(newest)


def decode(blob: bytes) -> Any:
    """A stored value: float, int, bool or str; None is a null that is stored, `UNREADABLE` anything else.

    Args:
        blob: a serialised `ValueProto`, in the one way in which protobuf's writers write it.
    """
    if not blob or blob == _NULL:
        return None
    return _READERS.get(blob[0], _unknown)(blob)


def _unknown(blob: bytes) -> object:
    return UNREADABLE


def _text(blob: bytes) -> str | object:
    length, start = _varint(blob)
    if start + length != len(blob):
        return UNREADABLE
    try:
        return blob[start:].decode()
    except UnicodeDecodeError:
        return UNREADABLE


def _int32(blob: bytes) -> int | object:
    value = _int64(blob)
    return value if isinstance(value, int) and -(1 << 31) <= value < 1 << 31 else UNREADABLE


def _int64(blob: bytes) -> int | object:
    unsigned, end = _varint(blob)
    if end != len(blob) or unsigned >> 64:
        return UNREADABLE
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def _double(blob: bytes) -> float | object:
    return _DOUBLE.unpack(blob)[0] if len(blob) == _DOUBLE.size else UNREADABLE


def _float(blob: bytes) -> float | object:
    return _FLOAT.unpack(blob)[0] if len(blob) == _FLOAT.size else UNREADABLE


def _bool(blob: bytes) -> bool | object:
    return {b"\x00": False, b"\x01": True}.get(blob[1:], UNREADABLE)


_READERS: Mapping[int, Callable[[bytes], object]] = {
    2 << 3 | 2: _text,
    3 << 3 | 0: _int32,
    4 << 3 | 0: _int64,
    _DOUBLE_TAG: _double,
    6 << 3 | 5: _float,
    7 << 3 | 0: _bool,
}


def _varint(blob: bytes) -> tuple[int, int]:
    """The number that follows the tag, seven bits a byte and the lowest first, and where it ends; 0 is nowhere."""
    value = 0
    for position, byte in enumerate(blob[1:11]):
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, position + 2
    return 0, 0


def event_time_s(stored: int) -> float:
    """The moment of a value, seconds since 1970 UTC, whole.

    Feast stores what the machine's clock would show as UTC's digits: it takes the zone off and reads the rest as local
    time. So reader and writer need the same time zone; in one without summer time nothing is ambiguous.

    Raises:
        ValueError, OverflowError, OSError: no clock shows that.
    """
    return float(stored + time.localtime(stored).tm_gmtoff)


def hash_field(view: str, feature: str) -> bytes:
    """The field of a Redis hash in which a feature is kept; that of the view's time is `hash_time_field`."""
    return _U32(_murmur3(f"{view}:{feature}".encode()))


def hash_time_field(view: str) -> bytes:
    """See `hash_field`."""
    return b"_ts:" + view.encode()


def decode_hash(features: Sequence[str], values: Sequence[bytes | None]) -> tuple[dict[str, Any], float] | None:
    """What a view holds for one key, as `decode_rows` has it; None when it holds nothing.

    Args:
        features: the names.
        values: of their fields, in their order, and last that of the time.

    Raises:
        TypeError, ValueError: Feast writes no such fields.
    """
    *blobs, at = values
    if at is None:
        if any(blob is not None for blob in blobs):
            raise ValueError("values without a time")
        return None
    found: dict[str, Any] = {}
    for feature, blob in zip(features, blobs, strict=True):
        if blob is not None:
            found[feature] = decode(blob)
    return found, timestamp_s(at)


def timestamp_s(blob: bytes) -> float:
    """The moment in a serialised protobuf `Timestamp`, seconds since 1970 UTC, in whole microseconds.

    Raises:
        ValueError: it is none before the year 4147.
    """
    seconds = nanos = 0
    rest = blob
    if rest[:1] == _SECONDS_TAG:
        seconds, end = _varint(rest)
        rest = rest[end:] if end else b"?"
    if rest[:1] == _NANOS_TAG:
        nanos, end = _varint(rest)
        rest = rest[end:] if end else b"?"
    seconds -= seconds >> 63 << 64
    if rest or abs(seconds) > _MOST_SECONDS or nanos >= 1_000_000_000:
        raise ValueError("no time that Feast writes")
    # One division, as for a row's decision time: equal moments are equal numbers.
    return (seconds * 1_000_000 + nanos // 1000) / 1e6


def _murmur3(data: bytes) -> int:
    """MurmurHash3, 32 bits, seed 0."""
    state = 0
    end = len(data) & ~3
    for start in range(0, end, 4):
        state ^= _scrambled(int.from_bytes(data[start : start + 4], "little"))
        state = (state << 13 | state >> 19) & _MASK
        state = (state * 5 + 0xE6546B64) & _MASK
    state ^= _scrambled(int.from_bytes(data[end:], "little")) ^ len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & _MASK
    state = (state ^ state >> 13) * 0xC2B2AE35 & _MASK
    return state ^ state >> 16


def _scrambled(block: int) -> int:
    block = block * 0xCC9E2D51 & _MASK
    return (block << 15 | block >> 17) * 0x1B873593 & _MASK
