"""The requests: what is sent, and what may come back."""

import json
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.soak.material import DIRECTORIES, MODELS, PAIRED_VERSION, Estimator, by_key, make_rows, matrix_of

Expected = Mapping[int, NDArray[np.float64]]
"""Version to the probabilities that it has to answer."""
JSON = "application/json"
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Shot:
    """One request.

    Attributes:
        row_count: predictions that the answer has to have.
        label_count: labels that it has to accept.
        announced_bytes: length that is announced instead of the body's own; the rest never comes.
    """

    kind: str
    model: str
    path: str
    body: bytes
    statuses: frozenset[int]
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    row_count: int = 0
    label_count: int = 0
    expected: Expected | None = None
    is_binary: bool = False
    announced_bytes: int = 0


OK = frozenset({200})
BAD = frozenset({400})
LARGE = frozenset({413})


class Shots:
    """Makes requests, of all kinds by their weights. Safe for several threads, each with its own `random`."""

    def __init__(self, estimators: Mapping[str, Estimator]) -> None:
        self._ones = [self._rows(1, seed, estimators) for seed in range(40)]
        self._hundreds = [self._rows(100, seed, estimators) for seed in range(100, 108)]
        self._tensors = [_tensors(rows, expected) for rows, expected in self._ones[:10]]
        self._matrices = [_matrix(rows, expected) for rows, expected in self._hundreds]
        self._makers: dict[str, tuple[float, Callable[[random.Random], Shot]]] = {
            "1 row": (40, lambda dice: self._predict("1 row", dice, self._ones)),
            "100 rows": (10, lambda dice: self._predict("100 rows", dice, self._hundreds)),
            "1 row by key": (15, lambda dice: self._keyed("1 row by key", dice, 1)),
            "20 rows by key": (4, lambda dice: self._keyed("20 rows by key", dice, 20)),
            "tensors, JSON": (8, lambda dice: self._infer("tensors, JSON", dice, self._tensors)),
            "matrix, binary": (8, lambda dice: self._infer("matrix, binary", dice, self._matrices)),
            "labels": (6, _labels),
            "metadata": (2, _metadata),
            "bad": (7, _bad),
        }

    def next(self, dice: random.Random) -> Shot:
        """One of them."""
        weights = [weight for weight, _ in self._makers.values()]
        (maker,) = dice.choices([maker for _, maker in self._makers.values()], weights)
        return maker(dice)

    def one_row(self, dice: random.Random) -> Shot:
        """A good one, for clients that are bad themselves."""
        return self._predict("1 row", dice, self._ones)

    def _rows(self, count: int, seed: int, estimators: Mapping[str, Estimator]) -> "tuple[list[dict], Expected]":
        rows = make_rows(count, seed)
        by_version = {version: estimators[name].predict(rows) for name, version in DIRECTORIES.items()}
        return rows, by_version | {PAIRED_VERSION: by_version[DIRECTORIES["a"]]}

    def _predict(self, kind: str, dice: random.Random, among: "Sequence[tuple[list[dict], Expected]]") -> Shot:
        rows, expected = dice.choice(among)
        model = dice.choice(MODELS)
        body = json.dumps({"rows": rows}).encode()
        path = f"/v1/models/{model}/predict"
        return Shot(kind, model, path, body, OK, row_count=len(rows), expected=expected)

    def _keyed(self, kind: str, dice: random.Random, count: int) -> Shot:
        """Some of the keys are not in the store."""
        model = dice.choice(MODELS)
        rows = [by_key(dice.choice(self._ones)[0][0], dice.randrange(250)) for _ in range(count)]
        body = json.dumps({"rows": rows}).encode()
        return Shot(kind, model, f"/v1/models/{model}/predict", body, OK, row_count=count)

    def _infer(
        self, kind: str, dice: random.Random, among: "Sequence[tuple[bytes, dict[str, str], int, Expected]]"
    ) -> Shot:
        body, headers, count, expected = dice.choice(among)
        model = dice.choice(MODELS)
        path = f"/v2/models/{model}/infer"
        return Shot(
            kind, model, path, body, OK, headers=headers, row_count=count, expected=expected, is_binary=bool(headers)
        )


def _tensors(rows: "list[dict]", expected: Expected) -> tuple[bytes, dict[str, str], int, Expected]:
    from benchmarks.soak.material import PAIR, contract

    kinds = {"float": "FP64", "int": "INT64", "bool": "BOOL", "category": "BYTES"}
    inputs = [
        {"name": f.name, "datatype": kinds[f.type], "shape": [len(rows)], "data": [row[f.name] for row in rows]}
        for f in contract(PAIR).features
    ]
    return json.dumps({"inputs": inputs}).encode(), {}, len(rows), expected


def _matrix(rows: "list[dict]", expected: Expected) -> tuple[bytes, dict[str, str], int, Expected]:
    data = matrix_of(rows).astype("<f4").tobytes()
    parameters = {"binary_data_size": len(data)}
    shape = [len(rows), len(rows[0])]
    document = {
        "inputs": [{"name": "features", "datatype": "FP32", "shape": shape, "parameters": parameters}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(document).encode()
    return text + data, {"Inference-Header-Content-Length": str(len(text))}, len(rows), expected


def _labels(dice: random.Random) -> Shot:
    """Outcomes of predictions; whose they are is nothing to the service."""
    count = dice.choice((1, 1, 1, 50))
    model = dice.choice(MODELS)
    labels = [
        {"prediction_id": uuid.UUID(int=dice.getrandbits(128)).hex, "late": dice.randrange(2)} for _ in range(count)
    ]
    body = json.dumps({"labels": labels}).encode()
    return Shot("labels", model, f"/v1/models/{model}/labels", body, OK, label_count=count)


def _metadata(dice: random.Random) -> Shot:
    model = dice.choice(MODELS)
    path = dice.choice((f"/v2/models/{model}", f"/v2/models/{model}/ready"))
    return Shot("metadata", model, path, b"", OK, method="GET")


# What is wrong with it: path below the model, body, headers, and the statuses that say so.
_Wrong = tuple[str, bytes, dict[str, str], frozenset[int]]
BAD_SHOTS: Mapping[str, _Wrong] = {
    "empty": ("predict", b"", {}, BAD),
    "not JSON": ("predict", b"rows=1", {}, BAD),
    "cut off": ("predict", b'{"rows": [{"x0": 12.', {}, BAD),
    "NUL": ("predict", b"\0" * 100, {}, BAD),
    "not UTF-8": ("predict", b'{"rows": [{"side": "\xff\xfe"}]}', {}, BAD),
    "lone surrogate": ("predict", b'{"rows": [{"side": "\\ud800"}]}', {}, BAD),
    "deep": ("predict", b'{"rows":' * 20_000, {}, BAD | LARGE),
    "5000 digits": ("predict", b'{"rows": [{"x0": ' + b"9" * 5000 + b"}]}", {}, BAD),
    "NaN": ("predict", b'{"rows": [{"x0": NaN}]}', {}, BAD),
    "no rows": ("predict", b'{"rows": []}', {}, BAD),
    "another form": ("predict", b'{"instances": [[1, 2, 3]]}', {}, BAD),
    "unknown features": ("predict", b'{"rows": [' + b'{"x": 1},' * 999 + b'{"x": 1}]}', {}, BAD),
    "too many rows": ("predict", b'{"rows": [' + b"{}," * 10_000 + b"{}]}", {}, LARGE),
    "too large": ("predict", b" " * (3 * MEBIBYTE), {}, LARGE),
    "no tensors": ("infer", b'{"inputs": []}', {}, BAD),
    "half a tensor": ("infer", b"{}", {"Inference-Header-Content-Length": "1000"}, BAD),
    "no labels": ("labels", b'{"labels": [{"late": 1}]}', {}, BAD),
    "text": ("predict", b'{"rows": []}', {"Content-Type": "text/plain"}, frozenset({415})),
    "header": ("predict", b"{}", {"X-Huge": "a" * 60_000}, frozenset({431})),
    "no such version": ("predict", b"{}", {"Headrace-Version": "9999"}, frozenset({503})),
    "nowhere": ("../single/predict", b"{}", {}, frozenset({400, 404})),
}
_HUGE_BYTES = 41 * MEBIBYTE


def _bad(dice: random.Random) -> Shot:
    model = dice.choice(MODELS)
    if dice.random() < 0.05:
        path = f"/v1/models/{model}/predict"
        return Shot("bad", model, path, b" " * 10_000, LARGE, announced_bytes=_HUGE_BYTES)
    last, body, headers, statuses = BAD_SHOTS[dice.choice(list(BAD_SHOTS))]
    version = "v2" if last == "infer" else "v1"
    return Shot("bad", model, f"/{version}/models/{model}/{last}", body, statuses, headers=headers)
