"""The values of a tensor: JSON data, or raw bytes as the binary tensor data extension has them."""

import itertools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.refusals import Refusal
from serving.rows import Column, Numbers

# Little-endian whatever the machine; BOOL is a byte that is looked at before it is believed.
_RAW: Mapping[str, str] = {
    "BOOL": "u1",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
DATATYPES = (*_RAW, "BYTES")
NUMBERS = tuple(_RAW)[1:]
_NULL = type(None)
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Tensor:
    """One input: either `data` or `raw` holds its values, row-major.

    Attributes:
        shape: as sent and checked, (n_rows,) or (n_rows, width).
        data: decoded JSON, flat or nested.
        raw: bytes of the body, as many as `binary_data_size` says.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | None = None
    raw: memoryview | None = None

    def values(self) -> Column:
        """The values, flat; None or NaN is missing.

        Raises:
            Refusal: 400 they are not as many, or not of the kind, that shape and datatype say.
        """
        if self.raw is None:
            return self._from_json()
        return self._strings(self.raw) if self.datatype == "BYTES" else self._wide(self._numbers(self.raw))

    def numbers(self) -> Numbers:
        """The values of a tensor that is not BYTES, flat, in doubles or in the float32 in which they came.

        Raises:
            Refusal: as `values`.
        """
        if self.raw is None:
            return np.array(self._from_json(), dtype=np.float64)
        found = self._numbers(self.raw)
        return found if self.datatype == "FP32" else self._wide(found)

    @property
    def _count(self) -> int:
        # Python's integers do not overflow; the shape was bounded when it was read.
        return self.shape[0] * (self.shape[1] if len(self.shape) == 2 else 1)

    def _from_json(self) -> list[Any]:
        flat = self._flat(self.data or [])
        if len(flat) != self._count:
            raise self._refusal(f"has shape {list(self.shape)}, which takes {self._count} values, and not {len(flat)}")
        kinds = set(map(type, flat)) - {_NULL}
        if not _fit(self.datatype, kinds, flat):
            raise self._refusal(f"has data that is not {self.datatype}")
        return flat

    def _flat(self, data: list[Any]) -> list[Any]:
        if len(self.shape) == 1 or not data or not isinstance(data[0], list):
            return data
        rows, width = self.shape
        if len(data) != rows or not all(isinstance(row, list) and len(row) == width for row in data):
            raise self._refusal(f"has nested data that is not {rows} lists of {width}")
        return list(itertools.chain.from_iterable(data))

    def _numbers(self, raw: memoryview) -> NDArray[Any]:
        kind = np.dtype(_RAW[self.datatype])
        if len(raw) != self._count * kind.itemsize:
            size = self._count * kind.itemsize
            raise self._refusal(f"takes {size} bytes for its shape and datatype, but binary_data_size is {len(raw)}")
        found = np.frombuffer(raw, dtype=kind)
        if self.datatype == "BOOL" and (found > 1).any():
            raise self._refusal("has a byte that is neither 0 nor 1")
        return found

    @staticmethod
    def _wide(found: NDArray[Any]) -> Numbers:
        # A signalling NaN warns on its way to a double, and is as missing as any other.
        with np.errstate(invalid="ignore"):
            return found.astype(np.float64)

    def _strings(self, raw: memoryview) -> list[str]:
        values, at = [], 0
        for _ in range(self._count):
            if at + _LENGTH.size > len(raw):
                raise self._refusal(f"ends before its {self._count} elements")
            (length,) = _LENGTH.unpack_from(raw, at)
            at += _LENGTH.size
            if length > len(raw) - at:
                raise self._refusal("has an element that is longer than its data")
            values.append(bytes(raw[at : at + length]))
            at += length
        if at != len(raw):
            raise self._refusal(f"has {len(raw) - at} bytes after its {self._count} elements")
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError as broken:
            raise self._refusal("has an element that is not UTF-8") from broken

    def _refusal(self, what: str) -> Refusal:
        return Refusal(400, f"input {self.name!r} {what}")


def _fit(datatype: str, kinds: set[type], values: Sequence[Any]) -> bool:
    match datatype:
        case "BYTES":
            return kinds <= {str}
        case "BOOL":
            return kinds <= {bool}
        case "FP16" | "FP32" | "FP64":
            return kinds <= {int, float}
    if not kinds <= {int, float}:
        return False
    ends = np.iinfo(_RAW[datatype])
    present = [value for value in values if value is not None] if None in values else values
    return all(type(v) is int or v.is_integer() for v in present) and all(
        ends.min <= end <= ends.max for end in ((min(present), max(present)) if present else ())
    )
