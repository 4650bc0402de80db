"""What reads requests, on whatever libFuzzer thinks of: ``python -m tests.serving.fuzz.targets TARGET [FLAG ...]``.

Whatever is wrong with a request is said by one of three exceptions; a target ends in any other, or in two readers that
disagree. The flags are libFuzzer's; folders among them are corpora, and get an example of what is valid.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["serving"]):
    from serving.bodies import parse_rows
    from serving.context import ROLES, read_context
    from serving.fast_rows import NotPlain, RowDecoder
    from serving.infer_matrix import TensorEncoder
    from serving.infer_request import parse_infer
    from serving.keys import read_keys
    from serving.labels import parse_labels
    from serving.limits import Limits
    from serving.refusals import Refusal, first_few
    from serving.rows import RowProblems, to_columns

import numpy as np

from headrace.domain.encoding import encode
from tests.serving.completing import contract

LIMITS = Limits(rows=100)
CONTRACT = contract()
DECODER = RowDecoder(CONTRACT, LIMITS, 100, completes=False)
ENCODER = TensorEncoder(CONTRACT)
WIDTH = len(CONTRACT.features)

ROW = {"origin": "JFK", "delay_min": 12.5, "flight_count": 30, "seat_count": 200, "is_leased": True, "maker": "Airbus"}
EXTRAS = {"tail": "N1", "flight": "UA 1", "decided_at": "2020-01-01T12:00:00Z"}
_DATATYPES = {"origin": "BYTES", "delay_min": "FP64", "is_leased": "BOOL", "maker": "BYTES"}
INPUTS = [
    {"name": name, "datatype": _DATATYPES.get(name, "INT32"), "shape": [1], "data": [value]}
    for name, value in ROW.items()
]
MATRIX = {"name": "features", "datatype": "FP32", "shape": [1, WIDTH]}
LABELS = [
    {"prediction_id": "0123456789abcdef" * 2, "late": 1},
    {"flight": "UA 1", "decided_at": "2020-01-01T12:00:00Z", "late": 0, "known_at": "2020-01-01T14:00:00+01:00"},
]


def rows(body: bytes) -> None:
    """Both readers of rows; what the fast one takes, both read alike."""
    try:
        fast = DECODER.decode(body)
    except NotPlain:
        fast = None
    try:
        found = parse_rows(body, LIMITS)
        matrix, keys = encode(CONTRACT, to_columns(CONTRACT, found)), read_keys(CONTRACT, found)
    except (Refusal, RowProblems) as refused:
        if fast is not None:
            raise AssertionError("the fast way takes what the other one refuses") from refused
        raise
    if fast is not None:
        assert np.array_equal(fast[0].view(np.uint32), np.ascontiguousarray(matrix).view(np.uint32))
        assert fast[1] == keys


def infer_json(body: bytes) -> None:
    """An infer request that is JSON throughout."""
    _infer(body, None)


def infer_binary(body: bytes) -> None:
    """An infer request with binary data; the first two bytes are the length of its JSON."""
    _infer(body[2:], int.from_bytes(body[:2], "big"))


def _infer(body: bytes, json_bytes: int | None) -> None:
    asked = parse_infer(body, json_bytes, CONTRACT, LIMITS)
    matrix = ENCODER.encode(asked.inputs, asked.row_count)
    assert matrix.shape == (asked.row_count, WIDTH)
    assert matrix.dtype == np.float32
    assert not np.isinf(matrix).any()


def labels(body: bytes) -> None:
    """Outcomes."""
    assert len(parse_labels(body, CONTRACT, LIMITS)) >= 1


def context(lines: bytes) -> None:
    """Headers that say what a request is: id, role and trace, a line each."""
    names = (b"x-request-id", b"headrace-role", b"traceparent")
    found = read_context(dict(zip(names, lines.split(b"\n"), strict=False)))
    assert re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", found.request_id)
    assert 0 <= found.role < len(ROLES)
    assert re.fullmatch(rb"([0-9a-f]{32})?", found.trace_id)


def _binary() -> bytes:
    raw = np.array([0, 12.5, 30, 200, 1, 0], dtype="<f4").tobytes()
    text = json.dumps({"inputs": [MATRIX | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    return len(text).to_bytes(2, "big") + text + raw


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


TARGETS: Mapping[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]] = {
    "rows": (rows, (_json({"rows": [ROW]}), _json({"rows": [ROW | EXTRAS, ROW]}))),
    "infer_json": (infer_json, (_json({"inputs": INPUTS}), _json({"inputs": [MATRIX | {"data": [0.0] * WIDTH}]}))),
    "infer_binary": (infer_binary, (_binary(),)),
    "labels": (labels, (_json({"labels": LABELS}),)),
    "context": (context, (b"r-1\ncanary\n00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",)),
}


def guarded(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """A target that ends only in what nobody foresaw."""

    def run(data: bytes) -> None:
        try:
            target(data)
            return
        except Refusal as said:
            refusal = said
        except RowProblems as problems:
            refusal = Refusal(400, first_few(problems.sentences))
        assert 400 <= refusal.status < 500
        assert len(refusal.response().body) < 4096

    return run


def main() -> None:
    """Run a target."""
    name, *flags = sys.argv[1:]
    target, examples = TARGETS[name]
    for example in examples:
        # Else it would take a million runs to find out what JSON is.
        target(example)
    for folder in (Path(flag) for flag in flags if not flag.startswith("-")):
        for number, example in enumerate(examples):
            (folder / f"example-{number}").write_bytes(example)
    atheris.Setup([name, *flags], guarded(target))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
