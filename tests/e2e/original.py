"""The estimator that a registered version was exported from, and the whole holdout to ask a service about.

Nothing pickled is kept, so the estimator is fitted again, from the recorded parameters and the rows that the run learnt
from. That it is the same one is proven: its export has the sha256 that the registry recorded.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import tritonclient.http as triton
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from headrace.documents import read_contract
from headrace.domain.contract import Contract
from headrace.domain.encoding import Matrix
from headrace.learning import frames, model_code, onnx_model
from headrace.steps import handover

# A body of this many rows stays below the service's default limit of bytes.
BATCH_ROWS = 2_000


@dataclass(frozen=True)
class Holdout:
    """Attributes:
    frame: the rows as the pipeline has them; `rows` as a client sends them; `matrix` encoded (n_rows, n_features).
    expected: the estimator's own probabilities (n_rows,).
    tolerance: of the version's golden predictions.
    """

    contract: Contract
    frame: pd.DataFrame
    rows: list[dict[str, Any]]
    matrix: Matrix
    expected: NDArray[np.float64]
    tolerance: float

    def batches(self) -> Iterator[slice]:
        return (slice(at, at + BATCH_ROWS) for at in range(0, len(self.rows), BATCH_ROWS))


def holdout(root: Path, home: Path, lineage: dict[str, Any]) -> Holdout:
    """Fit the version's estimator again, and let it answer the version's holdout."""
    digest = lineage["files"]["model.onnx"]
    run = _run_that_made(home / "runs" / lineage["model"], digest)
    learn, judge = (pd.read_parquet(next(run.rglob(name))) for name in (handover.TRAIN_ROWS, handover.HOLDOUT_ROWS))
    contract = read_contract(root / "models" / lineage["model"] / "contract.yaml")
    code = model_code.load(root, contract.model)
    estimator = code.build(code.bind_params(lineage["parameters"]["train"]), contract)
    # More threads than cores that are free make it several times slower, and no different.
    with threadpool_limits(1):
        estimator.fit(frames.matrix(contract, learn), learn[contract.label.name].to_numpy())
    exported = hashlib.sha256(onnx_model.export(estimator, contract)).hexdigest()
    assert exported == digest, "another estimator than the one that was registered"
    matrix = frames.matrix(contract, judge)
    expected = onnx_model.estimator_predict(estimator, matrix, contract.task)
    tolerance = json.loads(next(run.rglob("golden.json")).read_text())["tolerance"]
    return Holdout(contract, judge, frames.rows(contract, judge), matrix, expected, tolerance)


def _run_that_made(runs: Path, digest: str) -> Path:
    for trained in runs.rglob(handover.TRAINED):
        if json.loads(trained.read_text())["files"]["model.onnx"] == digest:
            return trained.parents[2]
    raise AssertionError(f"no run below {runs} made the model with sha256 {digest}")


def ask_rows(url: str, asked: Holdout) -> NDArray[np.float64]:
    """What the service answers to rows in JSON."""
    answers = []
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        for part in asked.batches():
            answer = client.post(f"/v1/models/{asked.contract.model}/predict", json={"rows": asked.rows[part]})
            assert answer.status_code == 200, answer.text
            answers += [one["probability"] for one in answer.json()["predictions"]]
    return np.array(answers)


def ask_matrix(url: str, asked: Holdout) -> NDArray[np.float64]:
    """What it answers to the encoded rows as one binary tensor."""

    def inputs(part: slice) -> list[triton.InferInput]:
        return [_tensor("features", asked.matrix[part], "FP32")]

    return _ask_tensors(url, asked, inputs)


def ask_tensors(url: str, asked: Holdout) -> NDArray[np.float64]:
    """What it answers to one binary tensor for each feature."""

    def inputs(part: slice) -> list[triton.InferInput]:
        return [
            _tensor(f.name, np.array([text or "" for text in column[part]], dtype=np.object_), "BYTES")
            if f.type == "category"
            else _tensor(f.name, column[part].to_numpy(dtype=np.float64, na_value=np.nan), "FP64")
            for f, column in ((f, asked.frame[f.name]) for f in asked.contract.features)
        ]

    return _ask_tensors(url, asked, inputs)


def _tensor(name: str, values: NDArray[Any], datatype: str) -> triton.InferInput:
    tensor = triton.InferInput(name, list(values.shape), datatype)
    return tensor.set_data_from_numpy(values, binary_data=True)


def _ask_tensors(url: str, asked: Holdout, inputs: Any) -> NDArray[np.float64]:
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=True)]
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        answers = [
            client.infer(asked.contract.model, inputs(part), outputs=wanted).as_numpy("probabilities")[:, 1]
            for part in asked.batches()
        ]
    return np.concatenate(answers).astype(np.float64)
