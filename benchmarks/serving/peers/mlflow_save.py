"""Write the model as MLflow keeps it: mlflow_save.py DIRECTORY.

For scikit-learn by MLflow's own flavour, for ONNX as a Python model.
"""

import os
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd


def main(directory: str) -> None:
    """Save it with a signature, as MLflow advises."""
    import json

    source = Path(os.environ["BENCH_MODEL"])
    contract = json.loads((source / "headrace/contract.json").read_text())
    kinds = {"float": np.float64, "int": np.int64}
    columns = {f["name"]: np.array([f["range"][0]], dtype=kinds[f["type"]]) for f in contract["features"]}
    signature: Any = mlflow.models.infer_signature(pd.DataFrame(columns), np.zeros(1))
    if os.environ["BENCH_ENGINE"] == "onnx":
        code = Path(__file__).with_name("mlflow_onnx.py")
        mlflow.pyfunc.save_model(directory, python_model=str(code), signature=signature, pip_requirements=[])
    else:
        import joblib

        estimator = joblib.load(source / "estimator.joblib")
        mlflow.sklearn.save_model(
            estimator,
            directory,
            signature=signature,
            pyfunc_predict_fn="predict_proba",
            pip_requirements=[],
            skops_trusted_types=["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
        )


if __name__ == "__main__":
    main(sys.argv[1])
