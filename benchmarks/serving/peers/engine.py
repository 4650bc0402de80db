"""The model inside a peer: scikit-learn as it was trained, or the same model in ONNX Runtime.

The ONNX session has the options that Headrace's has: one thread that does not spin.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Predict = Callable[[Any], Any]


def load() -> Predict:
    """What maps rows (n_rows, n_features), missing values None or NaN, to probabilities (n_rows,)."""
    directory = Path(os.environ["BENCH_MODEL"])
    predict_proba = _onnx(directory) if os.environ["BENCH_ENGINE"] == "onnx" else _sklearn(directory)

    def predict(rows: Any) -> Any:
        return predict_proba(np.asarray(rows, dtype=np.float32))[:, 1]

    return predict


def _sklearn(directory: Path) -> Predict:
    import joblib

    return joblib.load(directory / "estimator.joblib").predict_proba  # type: ignore[no-any-return]


def _onnx(directory: Path) -> Predict:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(directory / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda matrix: session.run(["probabilities"], {"features": matrix})[0]
