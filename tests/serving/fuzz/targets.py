"""``python -m tests.serving.fuzz.targets NAME [libFuzzer's options] [FOLDER]``: give a parser what nobody would send.

Whatever it is given, a parser returns, or refuses in a small sentence with a 4xx status. More than the test's few
thousand runs, with a folder that keeps what was found: ``… rows -max_total_time=3600 corpus/rows``.
"""

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import atheris
import orjson

with atheris.instrument_imports(include=["serving"], exclude=["serving.signature"]):
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
from headrace.domain.contract import Budgets, BusinessValue, Contract, Feature, Label, LabelDelay, Rows, Task
from headrace.domain.encoding import encode

LIMITS = Limits(rows=50)
ROW = {"wind": 12.5, "distance": 760, "carrier": "DL", "holiday": False, "delay": None, "gate": "north"}
FEATURES = (
    Feature("wind", "float", "", range=(0, 60)),
    Feature("distance", "int", "", range=(0, 60)),
    Feature("carrier", "category", "", values=("AA", "DL")),
    Feature("holiday", "bool", ""),
    Feature("delay", "float", "", range=(0, 60), missing=True),
    Feature("gate", "category", "", values=("north", "south"), missing=True),
)


def contract_of(task: Task) -> Contract:
    return Contract(
        model="flight",
        description="",
        task=task,
        rows=Rows("rows", "stage", "flight_id", "decided_at"),
        label=Label("late", "", "known_at", LabelDelay(1, 2, 3), classes=("a", "b") if task == "multiclass" else ()),
        features=FEATURES,
        metric={"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}[task],
        business_value=BusinessValue("v", "u", "d"),
        budgets=Budgets(1, 1),
        example=ROW,
    )


CONTRACT = contract_of("binary")
LABELLED = tuple(contract_of(task) for task in ("binary", "multiclass", "regression"))
DECODER = RowDecoder(CONTRACT, LIMITS, LIMITS.rows, completes=False)
ENCODER = TensorEncoder(CONTRACT)


def small(problem: Exception) -> None:
    """A refusal as a client gets it."""
    if isinstance(problem, RowProblems):
        problem = Refusal(400, first_few(problem.sentences))
    assert isinstance(problem, Refusal)
    assert 400 <= problem.status < 500, problem.status
    # An answer is JSON: a lone surrogate that came as a name would not be.
    assert len(orjson.dumps(problem.sentence)) < 4096


def rows(data: bytes) -> None:
    try:
        fast = DECODER.decode(data)
    except NotPlain:
        fast = None
    try:
        decoded = parse_rows(data, LIMITS)
        keys = read_keys(CONTRACT, decoded)
        matrix = encode(CONTRACT, to_columns(CONTRACT, decoded))
    except (Refusal, RowProblems) as problem:
        assert fast is None, "accepted in front of the app, and refused by it"
        small(problem)
        return
    if fast is not None:
        assert fast[0].tobytes() == matrix.tobytes()
        assert fast[1] == keys


def infer(data: bytes, json_bytes: int | None = None) -> None:
    try:
        asked = parse_infer(data, json_bytes, CONTRACT, LIMITS)
        matrix = ENCODER.encode(asked.inputs, asked.row_count)
    except (Refusal, RowProblems) as problem:
        small(problem)
        return
    assert matrix.shape == (asked.row_count, len(FEATURES))


def infer_binary(data: bytes) -> None:
    """The length of the JSON comes first, in two bytes."""
    infer(data[2:], int.from_bytes(data[:2], "little"))


def labels(data: bytes) -> None:
    for contract in LABELLED:
        try:
            found = parse_labels(data, contract, LIMITS)
        except Refusal as problem:
            small(problem)
            continue
        assert 0 < len(found) <= LIMITS.rows
        assert all((one.prediction_id is None) != (one.key is None) for one in found)


def context(data: bytes) -> None:
    """Three headers, apart by line ends."""
    found = read_context(
        dict(zip((b"traceparent", b"x-request-id", b"headrace-role"), data.split(b"\n"), strict=False))
    )
    assert len(found.trace_id) in (0, 32)
    assert set(found.trace_id) <= set(b"0123456789abcdef")
    assert 1 <= len(found.request_id) <= 64
    assert found.request_id.isascii()
    assert 0 <= found.role < len(ROLES)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "rows": rows,
    "infer": infer,
    "infer_binary": infer_binary,
    "labels": labels,
    "context": context,
}


def _tensor(name: str, datatype: str, data: list[object]) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}


def _binary(blocks: list[tuple[str, str, bytes]]) -> bytes:
    inputs = [
        {"name": name, "datatype": datatype, "shape": [1], "parameters": {"binary_data_size": len(block)}}
        for name, datatype, block in blocks
    ]
    text = orjson.dumps({"inputs": inputs, "outputs": [{"name": "prediction_id", "parameters": {"binary_data": True}}]})
    return len(text).to_bytes(2, "little") + text + b"".join(block for *_, block in blocks)


_KEYS = {"flight_id": "UA 1", "decided_at": "2013-07-01T12:00:00Z"}
_TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
# Where a fuzzer that sees nothing of the decoders, which are not Python, begins.
SEEDS: dict[str, list[bytes]] = {
    "rows": [
        orjson.dumps({"rows": [ROW]}),
        orjson.dumps({"rows": [ROW | _KEYS, ROW | {"delay": 1e-400, "gate": "é\u0000"}]}),
        b'{"rows":[{"wind":-0.0,"distance":760.0,"carrier":"\\u0044L","holiday":true,"wind":1e38,"delay":1e400}]}',
    ],
    "infer": [
        orjson.dumps(
            {
                "id": "a",
                "inputs": [
                    _tensor("wind", "FP64", [12.5]),
                    _tensor("distance", "INT32", [760]),
                    _tensor("carrier", "BYTES", ["DL"]),
                    _tensor("holiday", "BOOL", [False]),
                    _tensor("delay", "FP32", [None]),
                ],
                "outputs": [{"name": "probabilities"}],
                "parameters": {"binary_data_output": True},
            }
        ),
        b'{"inputs":[{"name":"features","shape":[2,6],"datatype":"FP32","data":[[1,760,1,0,null,0],[1,2,0,1,3,null]]}]}',
    ],
    "infer_binary": [
        _binary(
            [
                ("wind", "FP16", b"\0\x7e"),
                ("distance", "INT64", struct.pack("<q", 760)),
                ("carrier", "BYTES", b"\2\0\0\0DL"),
                ("holiday", "BOOL", b"\1"),
                ("delay", "FP32", b"\0\0\xc0\x7f"),
                ("gate", "BYTES", b"\0\0\0\0"),
            ]
        ),
        _binary([("wind", "UINT64", b"\xff" * 8), ("carrier", "BYTES", b"\xff\xff\xff\xff")]),
    ],
    "labels": [
        orjson.dumps({"labels": [{"prediction_id": "0" * 32, "late": 1, "known_at": "2013-07-01T12:00:00+00:00"}]}),
        orjson.dumps({"labels": [_KEYS | {"late": "b"}, {"flight_id": "x", "late": 0.5}]}),
        b'{"labels":[{"flight_id":"\\ud83d\\ude00","late":1e308,"decided_at":"0001-01-01T00:00:00+23:59"}]}',
    ],
    "context": [_TRACE + b"\nmy-id.1\ncanary", b"cc" + _TRACE[2:] + b"-more\n" + b"x" * 65 + b"\nstable"],
}


def main(arguments: list[str]) -> None:
    """Fuzz the target that is named first; the rest is libFuzzer's. The seeds are put into its folder."""
    name, *rest = arguments[1:]
    for folder in [one for one in rest if not one.startswith("-")][:1]:
        for number, seed in enumerate(SEEDS[name]):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
    atheris.Setup([arguments[0], *rest], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
