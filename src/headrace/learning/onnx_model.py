"""Estimators to ONNX, and ONNX to predictions. Only ONNX crosses into serving."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.domain.contract import Contract, Task
from headrace.domain.encoding import Matrix
from headrace.errors import HeadraceError

# ONNX Runtime scores blocks of this many rows: bounded memory for any holdout.
_BLOCK = 65_536
# Float32 sums of a few hundred trees differ by about 1e-6; a wrong link function differs by orders of magnitude.
_REGRESSION_TOLERANCE = 1e-4


def export(estimator: Any, contract: Contract) -> bytes:
    """Convert a fitted scikit-learn estimator or pipeline.

    Returns:
        ONNX with one input ``features`` float32 (None, n_features) and one output that is read: ``probabilities``
        (None, n_classes), or ``prediction`` (None, 1) for a regression.

    Raises:
        HeadraceError: the converter does not know the estimator.
    """
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    width = len(contract.features)
    kinds: dict[str, Any] = {"initial_types": [("features", FloatTensorType([None, width]))]}
    if contract.task == "regression":
        kinds["final_types"] = [("prediction", FloatTensorType([None, 1]))]
    else:
        kinds["options"] = {"zipmap": False}
    try:
        return bytes(to_onnx(estimator, target_opset={"": 17, "ai.onnx.ml": 3}, **kinds).SerializeToString())
    except Exception as failed:
        raise HeadraceError(
            f"{type(estimator).__name__} can't be converted to ONNX ({failed}); take one that skl2onnx supports"
        ) from failed


class OnnxModel:
    """A loaded ONNX model. One thread: batches here are large enough, and the service runs the same way."""

    def __init__(self, content: bytes, task: Task) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._task = task
        self._output = "prediction" if task == "regression" else "probabilities"

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        """Predict.

        Args:
            matrix: (n_rows, n_features) as `encode` makes it.

        Returns:
            binary: probability of the positive class (n_rows,); multiclass: (n_rows, n_classes); regression: (n_rows,).
        """
        blocks = [self._run(matrix[at : at + _BLOCK]) for at in range(0, len(matrix), _BLOCK)]
        return np.concatenate(blocks) if blocks else np.empty(0)

    def _run(self, block: Matrix) -> NDArray[np.float64]:
        raw = self._session.run([self._output], {"features": block})[0].astype(np.float64)
        return _shape(raw, self._task)


def estimator_predict(estimator: Any, matrix: Matrix, task: Task) -> NDArray[np.float64]:
    """The same as `OnnxModel.predict`, from the estimator before its export."""
    if task == "regression":
        return np.asarray(estimator.predict(matrix), dtype=np.float64).ravel()
    return _shape(np.asarray(estimator.predict_proba(matrix), dtype=np.float64), task)


def _shape(raw: NDArray[np.float64], task: Task) -> NDArray[np.float64]:
    if task == "binary":
        return raw[:, 1]
    return raw.ravel() if task == "regression" else raw


def parity(task: Task, original: NDArray[np.float64], exported: NDArray[np.float64]) -> tuple[int, float]:
    """Compare predictions before and after export.

    Returns:
        rows whose decision differs (label at 0.5, most likely class, or a value that is off by more than 1e-4 of its
        size), and the largest absolute difference.
    """
    difference = np.abs(original - exported)
    largest = float(difference.max(initial=0.0))
    if task == "binary":
        flips = (original >= 0.5) != (exported >= 0.5)
    elif task == "multiclass":
        flips = original.argmax(axis=1) != exported.argmax(axis=1)
    else:
        flips = ~(difference <= _REGRESSION_TOLERANCE * (1.0 + np.abs(original)))
    return int(flips.sum()), largest
