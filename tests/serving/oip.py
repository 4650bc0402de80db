"""Requests of the Open Inference Protocol by hand, so that no client's habits decide what is tested."""

import json
import struct
from typing import Any

import numpy as np

BASE = "/v2/models/flight_delay"
INFER = f"{BASE}/infer"
BINARY = {"content-type": "application/octet-stream"}
DATATYPES = {
    "wind_speed": ("FP64", "<f8"),
    "distance": ("INT32", "<i4"),
    "carrier": ("BYTES", None),
    "is_holiday": ("BOOL", "?"),
    "recent_delay": ("FP64", "<f8"),
    "gate": ("BYTES", None),
}


def json_inputs(rows: list[dict[str, Any]], nested: bool = False) -> list[dict[str, Any]]:
    """One tensor for each feature, its values in JSON."""
    return [
        {
            "name": name,
            "datatype": datatype,
            "shape": [len(rows), 1] if nested else [len(rows)],
            "data": [[row[name]] if nested else row[name] for row in rows],
        }
        for name, (datatype, _) in DATATYPES.items()
    ]


def raw(values: list[Any], kind: str | None) -> bytes:
    """Values as the extension has them; a missing string is an empty one, which is no category."""
    if kind is None:
        return b"".join(struct.pack("<I", len(text)) + text for text in ((value or "").encode() for value in values))
    return np.array([np.nan if value is None else value for value in values]).astype(kind).tobytes()


def binary_request(rows: list[dict[str, Any]], **more: Any) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request with one binary tensor for each feature."""
    blocks = {name: raw([row[name] for row in rows], kind) for name, (_, kind) in DATATYPES.items()}
    inputs = [
        {
            "name": name,
            "datatype": datatype,
            "shape": [len(rows)],
            "parameters": {"binary_data_size": len(blocks[name])},
        }
        for name, (datatype, _) in DATATYPES.items()
    ]
    return with_binary({"inputs": inputs, **more}, b"".join(blocks.values()))


def with_binary(document: Any, binary: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of JSON with binary data after it."""
    text = json.dumps(document).encode()
    return text + binary, BINARY | {"Inference-Header-Content-Length": str(len(text))}


def outputs(content: bytes, json_bytes: str | None) -> dict[str, np.ndarray]:
    """The output tensors of an answer, in whichever form each of them is."""
    text, rest = (content, b"") if json_bytes is None else (content[: int(json_bytes)], content[int(json_bytes) :])
    found = {}
    for output in json.loads(text)["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        values = output.get("data")
        if size is not None:
            block, rest = rest[:size], rest[size:]
            values = np.frombuffer(block, "<f4") if output["datatype"] == "FP32" else _strings(block)
        kind = np.float32 if output["datatype"] == "FP32" else object
        found[output["name"]] = np.array(values, dtype=kind).reshape(output["shape"])
    assert rest == b""
    return found


def _strings(block: bytes) -> list[str]:
    values = []
    while block:
        (length,) = struct.unpack_from("<I", block)
        values.append(block[4 : 4 + length].decode())
        block = block[4 + length :]
    return values
