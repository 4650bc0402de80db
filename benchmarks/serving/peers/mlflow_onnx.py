"""A Python model for MLflow with the same ONNX engine."""

import os
import sys
from typing import Any

import mlflow

sys.path.insert(0, os.environ["BENCH_PEERS"])
import engine


class OnnxModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The model as MLflow's models from code are written."""

    def load_context(self, context: Any) -> None:
        """Load the model."""
        self.model = engine.load()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Predict."""
        return self.model(model_input)


mlflow.models.set_model(OnnxModel())
