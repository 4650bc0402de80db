"""Models that answer well where they are proved, and otherwise elsewhere."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from headrace.documents import write_json
from tests.serving.conftest import make_contract, make_rows

USUAL = 0.25
# From this wind on, in knots, the answer is another one. At the proof there is never so much wind.
ODD = {40.0: math.nan, 44.0: math.inf, 48.0: -math.inf, 52.0: 1.2, 56.0: -0.2}
_WIND = 0


def answering() -> bytes:
    """A binary classifier as ONNX: the probability is `USUAL`, or what `ODD` says."""
    width = len(make_contract("binary").features)
    numbers = {"late0": USUAL, "one": 1.0}
    nodes = [helper.make_node("Gather", ["x", "wind"], ["knots"], axis=1)]
    for n, (knots, odd) in enumerate(ODD.items()):
        numbers |= {f"from{n}": knots, f"odd{n}": odd}
        nodes.append(helper.make_node("GreaterOrEqual", ["knots", f"from{n}"], [f"is{n}"]))
        nodes.append(helper.make_node("Where", [f"is{n}", f"odd{n}", f"late{n}"], [f"late{n + 1}"]))
    nodes.append(helper.make_node("Sub", ["one", f"late{len(ODD)}"], ["in_time"]))
    nodes.append(helper.make_node("Concat", ["in_time", f"late{len(ODD)}"], ["probabilities"], axis=1))
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in numbers.items()]
    constants.append(helper.make_tensor("wind", TensorProto.INT64, [1], [_WIND]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])]
    graph = helper.make_graph(nodes, "odd", inputs, outputs, constants)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def directory(trained: Path, to: Path) -> Path:
    """What a training of such a model would leave, with the contract of `trained`."""
    shutil.copytree(trained, to)
    (to / "model.onnx").write_bytes(answering())
    golden = {"rows": rows(*[USUAL] * 20), "predictions": [USUAL] * 20, "tolerance": 1e-5}
    write_json(to / "golden.json", golden)
    return to


def rows(*answers: float) -> list[dict[str, Any]]:
    """Valid rows for which these are the answers."""
    made = make_rows(len(answers))
    return [row | {"wind_speed": _knots(answer)} for row, answer in zip(made, answers, strict=True)]


def body(*answers: float) -> bytes:
    """A request with rows for which these are the answers."""
    return json.dumps({"rows": rows(*answers)}).encode()


def _knots(answer: float) -> float:
    return next((knots for knots, odd in ODD.items() if repr(odd) == repr(answer)), 0.0) + 1
