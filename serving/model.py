"""A model in memory: its contract and the ONNX session that answers for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from headrace.domain.contract import Contract
from headrace.domain.encoding import Matrix, encode
from headrace.errors import DataError
from serving.rows import to_columns

Predictions = NDArray[np.float32]


@dataclass(frozen=True)
class LoadedModel:
    """One version of a model, proved to answer as it did when it was trained.

    Attributes:
        inline_rows: so many rows cost so little that they are answered on the event loop; see `serving.loading`.
        golden_span: lowest and highest of the golden predictions.
    """

    contract: Contract
    version: int
    session: "OnnxSession"
    inline_rows: int = 0
    golden_span: tuple[float, float] = (0.0, 1.0)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.contract.model

    def matrix(self, rows: Sequence[Mapping[str, Any]]) -> Matrix:
        """Rows, decoded from JSON, as the model takes them.

        Raises:
            RowProblems: some rows break the contract.
        """
        return encode(self.contract, to_columns(self.contract, rows))

    def predict(self, matrix: Matrix) -> Predictions:
        """Predict a matrix (n_rows, n_features).

        Returns:
            binary: probability of the positive class (n_rows,); regression: value (n_rows,); multiclass: probability
            of each class (n_rows, n_classes).

        Raises:
            DataError: the model's output has not the shape of its task.
        """
        output = self.session.run(matrix)
        count = len(matrix)
        match self.contract.task:
            case "binary" if output.shape == (count, 2):
                return output[:, 1]
            case "multiclass" if output.shape == (count, len(self.contract.label.classes)):
                return output
            case "regression" if output.shape in ((count,), (count, 1)):
                return output.reshape(count)
        raise DataError(
            f"{self.name} version {self.version}: for {count} rows the model's output has shape {output.shape}, "
            f"which is not that of task {self.contract.task}"
        )


class OnnxSession:
    """An ONNX model with one float32 input (n_rows, n_features) and one output that counts.

    Raises:
        DataError: it is not ONNX, needs other files, or has other inputs or outputs.
    """

    def __init__(self, content: bytes, feature_count: int) -> None:
        try:
            self._session = ort.InferenceSession(content, _options(), providers=["CPUExecutionProvider"])
        except Exception as broken:  # onnxruntime raises a dozen unrelated classes, RuntimeError among them
            raise DataError(f"model.onnx can't be loaded: {_first_line(broken)}") from broken
        self._input = _input_name(self._session, feature_count)
        self._outputs = [_output_name(self._session)]

    def run(self, matrix: Matrix) -> NDArray[np.float32]:
        """The output that counts, for a matrix (n_rows, n_features)."""
        output: NDArray[np.float32] = self._session.run(self._outputs, {self._input: matrix})[0]
        return output


def _options() -> Any:
    options = ort.SessionOptions()
    # One process is one core: more threads only take turns, and spinning ones burn a core while they wait.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Weights in files beside the model have no digest in the manifest. By default onnxruntime looks for them in the
    # working directory; nothing can be below /dev/null, so such a model is refused.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/dev/null/none")
    # Its own log is not JSON, and says no more than the exception.
    options.log_severity_level = 4
    return options


def _first_line(problem: Exception) -> str:
    return str(problem).strip().partition("\n")[0][:300]


def _input_name(session: Any, feature_count: int) -> str:
    inputs = session.get_inputs()
    shapes = [(one.type, list(one.shape)) for one in inputs]
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
        raise DataError(f"model.onnx has to have one input, float32 (n_rows, n_features); it has {shapes}")
    width = inputs[0].shape[1]
    if width != feature_count:
        raise DataError(f"model.onnx takes {width} features, but contract.json has {feature_count}")
    name: str = inputs[0].name
    return name


def _output_name(session: Any) -> str:
    names: list[str] = [one.name for one in session.get_outputs() if one.type == "tensor(float)"]
    if not names:
        found = [(one.name, one.type) for one in session.get_outputs()]
        raise DataError(f"model.onnx has no float32 output; it has {found}")
    return "probabilities" if "probabilities" in names else names[0]
