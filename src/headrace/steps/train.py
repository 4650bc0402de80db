"""A dataset to a trained model: fitted, exported, proven equal, recorded."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.documents import plain, read_json, write_json
from headrace.domain import metrics
from headrace.domain.contract import Contract
from headrace.learning import frames, model_code, onnx_model
from headrace.ports import PIPELINE_RUN, Platform, RunRecord
from headrace.running import progress
from headrace.steps import handover
from headrace.steps.plan import contract_of

if TYPE_CHECKING:
    import pandas as pd

GOLDEN_ROWS = 256
GOLDEN_TOLERANCE = 1e-5
_IMPORTANCE_ROWS = 5_000


def train(platform: Platform, plan_in: Path, dataset_in: Path, out: Path) -> None:
    """Fit, export and record a model.

    Args:
        platform: the ports.
        plan_in: folder of `prepare`'s plan.
        dataset_in: folder of `prepare`'s dataset.
        out: folder for `trained.json` and the model directory `model/`.

    Raises:
        UsageError: a wrong training parameter.
        HeadraceError: the estimator can't be exported.
        Unavailable: MLflow does not answer.
    """
    import pandas as pd

    plan = read_json(handover.Plan, plan_in / handover.PLAN)
    dataset = read_json(handover.Dataset, dataset_in / handover.DATASET)
    contract = contract_of(platform, plan.request.model)
    learn = pd.read_parquet(dataset_in / handover.TRAIN_ROWS)
    holdout = pd.read_parquet(dataset_in / handover.HOLDOUT_ROWS)
    code = model_code.load(platform.root, contract.model)
    estimator = code.build(code.bind_params(plan.config.train), contract)
    estimator.fit(frames.matrix(contract, learn), learn[contract.label.name].to_numpy())
    progress("train", f"{type(estimator).__name__} fitted on {len(learn):,} rows")
    content = onnx_model.export(estimator, contract)
    model = onnx_model.OnnxModel(content, contract.task)
    matrix = frames.matrix(contract, holdout)
    exported = model.predict(matrix)
    flips, largest = onnx_model.parity(
        contract.task, onnx_model.estimator_predict(estimator, matrix, contract.task), exported
    )
    progress("train", f"exported to ONNX, {len(content) / 1e6:.2f} MB: {flips} decisions differ on the holdout")
    files = write_model(out / handover.MODEL_DIRECTORY, contract, content, holdout, exported)
    run_id = _record(platform, plan, dataset, contract)
    platform.registry.log_files(run_id, plan_in / handover.PLAN, "plan")
    trained = handover.TrainedModel(
        experiment_run=run_id,
        learnt_until=dataset.learnt_until,
        files=files,
        parity_flips=flips,
        parity_max_difference=largest,
        importance=_importance(contract, model, matrix, holdout),
    )
    write_json(out / handover.TRAINED, trained)


def write_model(
    directory: Path, contract: Contract, content: bytes, holdout: "pd.DataFrame", predictions: Any
) -> dict[str, str]:
    """Write what a service needs besides its manifest, and return file name to sha256."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(content)
    write_json(directory / "contract.json", contract)
    # From all of the holdout: a rollout also learns from them how two versions differ.
    chosen = np.linspace(0, len(holdout) - 1, min(GOLDEN_ROWS, len(holdout))).astype(int)
    golden = {
        "rows": frames.rows(contract, holdout.iloc[chosen]),
        "predictions": np.asarray(predictions)[chosen].tolist(),
        "tolerance": GOLDEN_TOLERANCE,
    }
    write_json(directory / "golden.json", golden)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def _record(platform: Platform, plan: handover.Plan, dataset: handover.Dataset, contract: Contract) -> str:
    registry = platform.registry
    run_id = registry.start_run(contract.model, plan.run_key, {"headrace.reason": plan.request.reason})
    parameters = {f"train.{name}": str(value) for name, value in plan.config.train.items()}
    window = plan.config.window
    parameters |= {"as_of": plan.config.as_of.isoformat(), "train_days": str(window.train_days)}
    parameters |= {"holdout_days": str(window.holdout_days), "dataset": dataset.id}
    metrics = {"train_rows": float(dataset.train_count), "holdout_rows": float(dataset.holdout_count)}
    tags = {
        "headrace.dataset": dataset.id,
        "headrace.commit": plan.code.commit + ("-dirty" if plan.code.dirty else ""),
        PIPELINE_RUN: plan.pipeline_run,
    }
    registry.log_run(run_id, RunRecord(parameters, metrics, tags))
    for context, start in (("training", plan.config.train_start), ("holdout", plan.config.holdout_start)):
        name = f"{contract.model} {context} from {start:%Y-%m-%d}"
        registry.log_dataset(run_id, name, dataset.id, str(plain(plan.fingerprint)["outputs"]), context)
    return run_id


def _importance(
    contract: Contract, model: onnx_model.OnnxModel, matrix: np.ndarray, holdout: "pd.DataFrame"
) -> dict[str, float]:
    """Permutation importance (Breiman 2001) of each feature for the primary metric, on a part of the holdout."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(matrix))[:_IMPORTANCE_ROWS]
    part, y = matrix[chosen], holdout[contract.label.name].to_numpy()[chosen]
    base = metrics.scores(contract.task, y, model.predict(part)).get(contract.metric)
    importance = {}
    for column, name in enumerate(contract.feature_names):
        shuffled = part.copy()
        shuffled[:, column] = rng.permutation(shuffled[:, column])
        worse = metrics.scores(contract.task, y, model.predict(shuffled)).get(contract.metric)
        if base is not None and worse is not None:
            importance[name] = float(np.subtract(*metrics.goodness(contract.metric, np.array([base, worse]))))
    return importance
