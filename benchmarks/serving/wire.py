"""How each server is asked, and where its answer has the probabilities."""

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.model import NAME, Material

_JSON = {"Content-Type": "application/json"}
_ACCEPT = {"Accept": "*/*", "User-Agent": "headrace-bench"}

Row = dict[str, Any]
Headers = Mapping[str, str]


@dataclass(frozen=True)
class Request:
    """One POST."""

    path: str
    headers: Headers
    body: bytes

    def raw(self) -> bytes:
        """Its bytes on the wire."""
        length = {"Content-Length": str(len(self.body))}
        lines = [f"{name}: {value}\r\n" for name, value in ({"Host": "127.0.0.1"} | {**self.headers} | length).items()]
        return f"POST {self.path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + self.body


@dataclass(frozen=True)
class Api:
    """A way of asking.

    Attributes:
        ask: rows to a request.
        read: an answer's body and its headers, in lower case, to the probabilities (n_rows,).
    """

    ask: Callable[[Material, list[Row]], Request]
    read: Callable[[bytes, Headers], NDArray[np.float64]]

    def requests(self, material: Material, row_count: int) -> list[Request]:
        """The requests for all bodies of so many rows."""
        return [self.ask(material, rows) for rows in material.rows[row_count]]


def write_requests(path: Path, requests: Iterable[Request]) -> None:
    """Write the file that the load generator reads."""
    with path.open("wb") as file:
        for request in requests:
            raw = request.raw()
            file.write(struct.pack("<I", len(raw)) + raw)


def _posts(path: str, document: Callable[[list[Row]], Any]) -> Callable[[Material, list[Row]], Request]:
    def ask(material: Material, rows: list[Row]) -> Request:
        # As httpx and JavaScript write it, without spaces.
        body = json.dumps(document(rows), separators=(",", ":")).encode()
        return Request(path, _ACCEPT | _JSON, body)

    return ask


def _lists(rows: list[Row]) -> list[list[Any]]:
    return [list(row.values()) for row in rows]


def _reads(*keys: str) -> Callable[[bytes, Headers], NDArray[np.float64]]:
    """Reads the probabilities below these keys; of two columns the second."""

    def read(body: bytes, headers: Headers) -> NDArray[np.float64]:
        found = json.loads(body)
        for key in keys:
            found = found[key]
        return _positive(np.array(found, dtype=np.float64))

    return read


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[:, 1] if values.ndim == 2 and values.shape[1] == 2 else values.ravel()


def _tensor(rows: list[Row], name: str) -> dict[str, Any]:
    data = [value for row in rows for value in row.values()]
    return {"name": name, "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": data}


def _read_headrace(body: bytes, headers: Headers) -> NDArray[np.float64]:
    return np.array([prediction["probability"] for prediction in json.loads(body)["predictions"]])


def _read_tensors(body: bytes, headers: Headers) -> NDArray[np.float64]:
    """The tensor of probabilities of an Open Inference Protocol answer, binary or not."""
    split = int(headers.get("inference-header-content-length", len(body)))
    rest = body[split:]
    for output in json.loads(body[:split])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        values = np.array(output["data"]) if size is None else rest[:size]
        rest = rest[size or 0 :]
        if output["name"] in ("probabilities", "predict_proba"):
            values = np.frombuffer(values, "<f4") if isinstance(values, bytes) else values
            return _positive(values.astype(np.float64).reshape(output["shape"]))
    raise ValueError("the answer has no tensor of probabilities")


def _ask_binary(material: Material, rows: list[Row]) -> Request:
    """As Triton's client asks: the matrix in float32 after the JSON, and all outputs to be binary too."""
    block = material.matrix(rows).astype("<f4").tobytes()
    tensor = _tensor(rows, "features") | {"parameters": {"binary_data_size": len(block)}}
    del tensor["data"]
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return Request(f"/v2/models/{NAME}/infer", _ACCEPT | headers, text + block)


def _ask_fixed(material: Material, rows: list[Row]) -> Request:
    return _posts(f"/{len(rows)}", lambda some: {"rows": [dict(row) for row in some]})(material, rows)


def _mlserver(rows: list[Row]) -> Any:
    return {"inputs": [_tensor(rows, "features")], "outputs": [{"name": "predict_proba"}]}


def _mlflow(rows: list[Row]) -> Any:
    return {"dataframe_split": {"columns": list(rows[0]), "data": _lists(rows)}}


def _named(rows: list[Row]) -> Any:
    return {"rows": [dict(row) for row in rows]}


ROWS = Api(_posts(f"/v1/models/{NAME}/predict", _named), _read_headrace)
OIP_JSON = Api(_posts(f"/v2/models/{NAME}/infer", lambda rows: {"inputs": [_tensor(rows, "features")]}), _read_tensors)
OIP_BINARY = Api(_ask_binary, _read_tensors)
FIXED = Api(_ask_fixed, _read_headrace)
NAIVE = Api(_posts("/predict", _named), _reads("predictions"))
LISTS = Api(_posts("/predict", lambda rows: {"rows": _lists(rows)}), _reads("predictions"))
BARE_LISTS = Api(_posts("/predict", lambda rows: {"rows": _lists(rows)}), _reads())
MLFLOW = Api(_posts("/invocations", _mlflow), _reads("predictions"))
MLSERVER = Api(_posts(f"/v2/models/{NAME}/infer", _mlserver), _read_tensors)
KSERVE = Api(_posts(f"/v1/models/{NAME}:predict", lambda rows: {"instances": _lists(rows)}), _reads("predictions"))
