"""Challenger and champion on the same holdout, and the gate's verdict on them."""

import re
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.documents import plain, read_contract, read_json, write_json
from headrace.domain import scoring
from headrace.domain.contract import Contract
from headrace.domain.gate import Verdict, decide
from headrace.domain.lineage import ModelVersion
from headrace.errors import HeadraceError
from headrace.learning import frames, model_code, onnx_model, pictures, report
from headrace.learning.model_code import ModelCode
from headrace.ports import PIPELINE_RUN, Judged, Platform, RunRecord
from headrace.running import progress
from headrace.steps import handover
from headrace.steps.plan import contract_of

if TYPE_CHECKING:
    import pandas as pd

_LATENCY_CALLS = 500


def evaluate(platform: Platform, plan_in: Path, dataset_in: Path, trained_in: Path, out: Path) -> bool:
    """Judge a trained model against the champion.

    Args:
        platform: the ports.
        plan_in: folder of `prepare`'s plan.
        dataset_in: folder of `prepare`'s dataset.
        trained_in: folder of `train`'s result.
        out: folder for `evaluation.json`, `verdict.json` and `report.html`.

    Returns:
        Whether the challenger is promoted.

    Raises:
        Unavailable: MLflow does not answer, so that nothing is known of the champion: no verdict.
    """
    import pandas as pd

    plan = read_json(handover.Plan, plan_in / handover.PLAN)
    trained = read_json(handover.TrainedModel, trained_in / handover.TRAINED)
    contract = contract_of(platform, plan.request.model)
    rows = pd.read_parquet(dataset_in / handover.HOLDOUT_ROWS)
    content = (trained_in / handover.MODEL_DIRECTORY / "model.onnx").read_bytes()
    model = onnx_model.OnnxModel(content, contract.task)
    matrix = frames.matrix(contract, rows)
    code = model_code.load(platform.root, contract.model)
    challenger = _contender(code, rows, model.predict(matrix), trained.learnt_until, None)
    champion = _champion(platform, contract.model, code, rows)
    export = scoring.Export(
        trained.parity_flips, trained.parity_max_difference, _latency_ms_p99(model, matrix), len(content) / 1e6
    )
    holdout = scoring.Holdout(
        y=rows[contract.label.name].to_numpy(),
        start=plan.config.holdout_start,
        end=plan.config.as_of,
        groups=_groups(contract, rows),
    )
    evaluation = scoring.compare(
        contract, holdout, challenger, champion, export=export, resampling=plan.config.gate.resampling
    )
    verdict = decide(plan.config.gate, contract.budgets, evaluation)
    progress("evaluate", verdict.summary)
    named = {"challenger": challenger} | ({f"champion v{champion.version}": champion} if champion else {})
    drawn = pictures.draw(
        contract,
        holdout.y,
        {name: contender.prediction for name, contender in named.items()},
        {name: contender.value for name, contender in named.items()},
        trained.importance,
    )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / handover.EVALUATION, evaluation)
    write_json(out / handover.VERDICT, verdict)
    page = report.render(contract, evaluation, verdict, _facts(plan, trained), drawn, plan.config.gate)
    (out / handover.REPORT).write_text(page)
    _record(platform, plan, trained.experiment_run, evaluation, verdict, out, drawn)
    return verdict.promote


def _contender(
    code: ModelCode, rows: "pd.DataFrame", prediction: Any, learnt_until: datetime, version: int | None
) -> scoring.Contender:
    return scoring.Contender(prediction, np.asarray(code.value(rows, prediction)), learnt_until, version)


def _champion(platform: Platform, model: str, code: ModelCode, rows: "pd.DataFrame") -> scoring.Contender | None:
    """The champion on the challenger's holdout, through the contract that it was made with."""
    number = platform.registry.alias(model, "champion")
    if number is None:
        return None
    version = platform.registry.version(model, number)
    directory = platform.model_directory(version)
    prediction = _champion_prediction(version, directory, rows)
    progress("evaluate", f"champion v{number} scored on the same {len(rows):,} rows")
    return _contender(code, rows, prediction, version.lineage.learnt_until, number)


def _champion_prediction(version: ModelVersion, directory: Path, rows: "pd.DataFrame") -> Any:
    own = read_contract(directory / "contract.json")
    missing = sorted(set(own.feature_names) - set(rows.columns))
    if missing:
        raise HeadraceError(
            f"champion v{version.version} needs the features {missing}, which the data no longer has: they can't be "
            "compared; keep the features in the contract until a version without them is the champion"
        )
    model = onnx_model.OnnxModel((directory / "model.onnx").read_bytes(), own.task)
    return model.predict(frames.matrix(own, rows))


def _groups(contract: Contract, rows: "pd.DataFrame") -> dict[str, Any]:
    return {
        name: scoring.slice_labels(part, contract.feature(part.feature), rows[part.feature].to_numpy())
        for name, part in contract.slices.items()
    }


def _latency_ms_p99(model: onnx_model.OnnxModel, matrix: Any) -> float:
    """One row at a time, different rows: a repeated one would flatter trees."""
    taken = []
    for at in range(_LATENCY_CALLS):
        row = matrix[at % len(matrix)][None, :]
        began = time.perf_counter()
        model.predict(row)
        taken.append(time.perf_counter() - began)
    return float(np.percentile(taken, 99) * 1000)


def _facts(plan: handover.Plan, trained: handover.TrainedModel) -> dict[str, str]:
    facts = {
        "Run key": plan.run_key,
        "Dataset": plan.fingerprint.id,
        "Trained on": f"{plan.config.train_start:%Y-%m-%d} to {plan.config.holdout_start:%Y-%m-%d}",
        "Judged on": f"{plan.config.holdout_start:%Y-%m-%d} to {plan.config.as_of:%Y-%m-%d}",
        "Commit": plan.code.commit[:12] + (" with uncommitted changes" if plan.code.dirty else ""),
        "MLflow run": trained.experiment_run,
        "Asked for": plan.request.reason,
    }
    return facts | {f"train.{name}": str(value) for name, value in plan.config.train.items()}


def _record(
    platform: Platform,
    plan: handover.Plan,
    run_id: str,
    evaluation: scoring.Evaluation,
    verdict: Verdict,
    out: Path,
    drawn: dict[str, bytes],
) -> None:
    metrics = {f"holdout_{name}": interval.value for name, interval in evaluation.challenger.items()}
    metrics |= {f"champion_{name}": interval.value for name, interval in (evaluation.champion or {}).items()}
    metrics |= {f"gain_{name}": interval.value for name, interval in evaluation.differences.items()}
    for name, value in (("latency_ms_p99", evaluation.latency_ms_p99), ("size_mb", evaluation.size_mb)):
        if value is not None:
            metrics[name] = value
    # Again, for a training that was taken from a cache: this run of the pipeline is the one that judges it.
    platform.registry.log_run(run_id, RunRecord({}, metrics, {PIPELINE_RUN: plan.pipeline_run}))
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    for title, png in drawn.items():
        (folder / f"{re.sub(r'[^a-z0-9]+', '_', title.lower())}.png").write_bytes(png)
    write_json(out / "slices.json", [plain(group) for group in evaluation.groups])
    platform.registry.log_files(run_id, out, "evaluation")
    judged = Judged(verdict.promote, verdict.summary, evaluation.champion_version)
    platform.registry.record_verdict(run_id, judged)
    platform.registry.end_run(run_id, succeeded=True)
