"""What may become of a model file, and pickles that tell when they are read."""

import gzip
import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto

# What is made of nothing but zeros packs a thousand times.
UNPACKED_BYTES = 128 * 1024 * 1024


class Marker:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return (Path.touch, (self.path,))


def pickled(marker: Path) -> bytes:
    """A pickle that makes the file `marker` when it is read."""
    return pickle.dumps(Marker(marker))


def flipped(model: bytes) -> bytes:
    """With one bit turned over, in the middle."""
    middle = len(model) // 2
    return model[:middle] + bytes([model[middle] ^ 1]) + model[middle + 1 :]


def truncated(model: bytes) -> bytes:
    """Without its last byte."""
    return model[:-1]


def zipped(model: bytes) -> bytes:
    """A zip bomb."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model.onnx", "w") as entry:
        shutil.copyfileobj(_Zeros(), entry)
    return packed.getvalue()


def gzipped(model: bytes) -> bytes:
    """The same as a stream, which a client may unpack without being asked."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as stream:
        shutil.copyfileobj(_Zeros(), stream)
    return packed.getvalue()


def external(model: bytes) -> bytes:
    """Its weights are in another file, whose content is nobody's to vouch for."""
    loaded = onnx.load_from_string(model)
    weights = TensorProto(name="elsewhere", dims=[4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "golden.json"), ("offset", "0"), ("length", "16")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    loaded.graph.initializer.append(weights)
    loaded.graph.node.append(onnx.helper.make_node("Identity", ["elsewhere"], ["unused"]))
    loaded.graph.output.append(onnx.helper.make_tensor_value_info("unused", TensorProto.FLOAT, [4]))
    return bytes(loaded.SerializeToString())


class _Zeros(io.RawIOBase):
    def __init__(self) -> None:
        self._left = UNPACKED_BYTES

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        taken = min(self._left, size)
        self._left -= taken
        return bytes(taken)


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "truncated": truncated,
    "bit-flipped": flipped,
    "of another type": lambda model: b"\x89PNG\r\n\x1a\n" + model,
    "a page that says why not": lambda model: b"<html><title>Sign in</title></html>",
    "zip bomb": zipped,
    "weights in another file": external,
}
