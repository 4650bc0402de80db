"""Write the model as MLflow keeps it: mlflow_save.py DIRECTORY.

For scikit-learn by MLflow's own flavour, for ONNX as a Python model. Without a signature: with one, MLflow checks
thirty columns in every request, and takes more than twice as long.
"""

import os
import sys
from pathlib import Path

import mlflow


def main(directory: str) -> None:
    """Save it."""
    if os.environ["BENCH_ENGINE"] == "onnx":
        code = Path(__file__).with_name("mlflow_onnx.py")
        mlflow.pyfunc.save_model(directory, python_model=str(code), pip_requirements=[])
        return
    import joblib

    mlflow.sklearn.save_model(
        joblib.load(Path(os.environ["BENCH_MODEL"]) / "estimator.joblib"),
        directory,
        pyfunc_predict_fn="predict_proba",
        pip_requirements=[],
        skops_trusted_types=["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
    )


if __name__ == "__main__":
    main(sys.argv[1])
