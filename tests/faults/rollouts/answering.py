"""Models that answer well where they are proved, and otherwise elsewhere."""

import json
import math
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from headrace.documents import write_json
from tests.serving.conftest import make_contract, make_rows

USUAL = 0.25
# From this wind on, in knots, the answer is another one. At the proof there is never so much wind.
ODD = {40.0: math.nan, 44.0: math.inf, 48.0: -math.inf, 52.0: 1.2, 56.0: -0.2, 60.0: 0.75}
SLOW, FAILING = 64.0, 68.0
"""From this wind on it takes some 0.1 s, and from that one it ends with an error of ONNX Runtime's."""
LOST = "UA"
STORM, LIKELY, UNLIKELY = 30.0, 0.9, 0.1
_WIND = 0
_TURNS, _SIDE = 50_000, 32


def answering(odd: bool = True) -> bytes:
    """A binary classifier as ONNX: the probability is `USUAL`, or what `ODD` says, where it is odd at all."""
    width = len(make_contract("binary").features)
    odds = {**ODD, SLOW: USUAL} if odd else {}
    numbers = {"late0": USUAL, "one": 1.0, "no": 0.0, "slow_from": SLOW, "failing_from": FAILING}
    nodes = [
        helper.make_node("Gather", ["x", "wind"], ["knots"], axis=1),
        # As long as the rows, which a constant is not.
        helper.make_node("Mul", ["knots", "no"], ["zeros"]),
        helper.make_node("Add", ["late0", "zeros"], ["late_0"]),
    ]
    for n, (knots, answer) in enumerate(odds.items()):
        numbers |= {f"from{n}": knots, f"odd{n}": answer}
        nodes.append(helper.make_node("GreaterOrEqual", ["knots", f"from{n}"], [f"is{n}"]))
        nodes.append(helper.make_node("Where", [f"is{n}", f"odd{n}", f"late_{n}"], [f"late_{n + 1}"]))
    late = f"late_{len(odds)}"
    if odd:
        nodes += _trouble(late, "late")
        late = "late"
    nodes.append(helper.make_node("Sub", ["one", late], ["in_time"]))
    nodes.append(helper.make_node("Concat", ["in_time", late], ["probabilities"], axis=1))
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in numbers.items()]
    constants += [
        helper.make_tensor("wind", TensorProto.INT64, [1], [_WIND]),
        helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("far", TensorProto.INT64, [], [1000]),
        helper.make_tensor("turns", TensorProto.INT64, [], [_TURNS]),
        helper.make_tensor("square", TensorProto.FLOAT, [_SIDE, _SIDE], [0.0] * _SIDE**2),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])]
    graph = helper.make_graph(nodes, "odd", inputs, outputs, constants)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _trouble(late: str, name: str) -> list[onnx.NodeProto]:
    """Turns and turns for a request with a `SLOW` row, and reads beyond the end of a list for a `FAILING` one."""
    square = [TensorProto.FLOAT, [_SIDE, _SIDE]]
    turn = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("MatMul", ["before", "before"], ["after"])],
        "turn",
        [
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", *square),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("after", *square)],
    )
    return [
        helper.make_node("ReduceMax", ["knots"], ["most"], keepdims=0),
        helper.make_node("GreaterOrEqual", ["most", "failing_from"], ["fails"]),
        helper.make_node("Cast", ["fails"], ["fails_int"], to=TensorProto.INT64),
        helper.make_node("Mul", ["fails_int", "far"], ["at"]),
        helper.make_node("Gather", ["nothing", "at"], ["nothing_read"]),
        helper.make_node("GreaterOrEqual", ["most", "slow_from"], ["blows"]),
        helper.make_node("Xor", ["blows", "fails"], ["is_slow"]),
        helper.make_node("Cast", ["is_slow"], ["slow_int"], to=TensorProto.INT64),
        helper.make_node("Mul", ["slow_int", "turns"], ["turn_count"]),
        helper.make_node("Loop", ["turn_count", "", "square"], ["squared"], body=turn),
        helper.make_node("ReduceSum", ["squared"], ["nothing_turned"], keepdims=0),
        helper.make_node("Add", ["nothing_read", "nothing_turned"], ["nothing_more"]),
        helper.make_node("Add", [late, "nothing_more"], [name]),
    ]


def directory(trained: Path, to: Path, odd: bool = True) -> Path:
    """What a training of such a model would leave, with the contract of `trained`."""
    shutil.copytree(trained, to)
    (to / "model.onnx").write_bytes(answering(odd))
    golden = {"rows": rows(*[USUAL] * 20), "predictions": [USUAL] * 20, "tolerance": 1e-5}
    write_json(to / "golden.json", golden)
    return to


def choosy(trained: Path, to: Path) -> Path:
    """What a training of a good model would leave whose contract has lost the carrier `LOST`."""
    directory(trained, to, odd=False)
    contract, golden = (json.loads((to / name).read_text()) for name in ("contract.json", "golden.json"))
    for feature in contract["features"]:
        if feature["name"] == "carrier":
            feature["values"].remove(LOST)
    golden["rows"] = [row | {"carrier": "AA"} for row in golden["rows"]]
    write_json(to / "contract.json", contract)
    write_json(to / "golden.json", golden)
    return to


def weathervane(trained: Path, to: Path, right: bool = True) -> Path:
    """What a training would leave of a model that says `LIKELY` from `STORM` on and `UNLIKELY` below; or the reverse.

    In its golden rows both are as many, so that the scores of the reverse are distributed alike.
    """
    shutil.copytree(trained, to)
    width = len(make_contract("binary").features)
    stormy, calm = (LIKELY, UNLIKELY) if right else (UNLIKELY, LIKELY)
    nodes = [
        helper.make_node("Gather", ["x", "wind"], ["knots"], axis=1),
        helper.make_node("GreaterOrEqual", ["knots", "storm"], ["blows"]),
        helper.make_node("Where", ["blows", "stormy", "calm"], ["late"]),
        helper.make_node("Sub", ["one", "late"], ["in_time"]),
        helper.make_node("Concat", ["in_time", "late"], ["probabilities"], axis=1),
    ]
    numbers = {"storm": STORM, "stormy": stormy, "calm": calm, "one": 1.0}
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in numbers.items()]
    constants.append(helper.make_tensor("wind", TensorProto.INT64, [1], [_WIND]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])]
    graph = helper.make_graph(nodes, "weathervane", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (to / "model.onnx").write_bytes(model.SerializeToString())
    made = [row | {"wind_speed": STORM + (1.0 if n % 2 else -1.0)} for n, row in enumerate(make_rows(20))]
    golden = {"rows": made, "predictions": [stormy if n % 2 else calm for n in range(20)], "tolerance": 1e-5}
    write_json(to / "golden.json", golden)
    return to


def rows(*answers: float) -> list[dict[str, Any]]:
    """Valid rows for which these are the answers."""
    made = make_rows(len(answers))
    return [row | {"wind_speed": _knots(answer)} for row, answer in zip(made, answers, strict=True)]


def body(*answers: float) -> bytes:
    """A request with rows for which these are the answers."""
    return json.dumps({"rows": rows(*answers)}).encode()


def windy(knots: float) -> Iterator[bytes]:
    """Requests with one row each, no two alike, and so much wind in all."""
    [row] = make_rows(1)
    for number in count(1):
        yield json.dumps({"rows": [row | {"wind_speed": knots + number % 30_000 / 10_000}]}).encode()


def _knots(answer: float) -> float:
    return next((knots for knots, odd in ODD.items() if repr(odd) == repr(answer)), 0.0) + 1
