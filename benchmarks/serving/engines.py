"""The engines by themselves, with no server around them: what no server can be faster than."""

import time
from collections.abc import Callable
from typing import Any

import joblib

from benchmarks.serving.model import ROW_COUNTS, Material
from benchmarks.serving.process import pinned

_SECONDS = 0.5


def measure(material: Material, core: int) -> dict[tuple[str, int], float]:
    """Processor time of one prediction, µs, by engine and rows; the rows change, as they do under load."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = str(material.directory / "model.onnx")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    engines: dict[str, Callable[[Any], Any]] = {
        "sklearn": joblib.load(material.directory / "estimator.joblib").predict_proba,
        "onnx": lambda matrix: session.run(["probabilities"], {"features": matrix}),
    }
    with pinned(core):
        return {
            (name, rows): _cpu_us(predict, [material.matrix(body) for body in material.rows[rows]])
            for name, predict in engines.items()
            for rows in ROW_COUNTS
        }


def _cpu_us(predict: Callable[[Any], Any], matrices: list[Any]) -> float:
    for matrix in matrices:
        predict(matrix)
    count, began = 0, time.process_time()
    while (used := time.process_time() - began) < _SECONDS:
        predict(matrices[count % len(matrices)])
        count += 1
    return used / count * 1e6
