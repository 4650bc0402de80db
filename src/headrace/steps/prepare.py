"""Data to a dataset: rows with their features as known at the decision, and a holdout later than all training."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.documents import write_json
from headrace.domain.contract import Contract
from headrace.domain.request import TrainingConfig, TrainingRequest
from headrace.errors import DataError
from headrace.ports import Platform
from headrace.running import progress
from headrace.steps import handover
from headrace.steps.plan import contract_of, make_plan

if TYPE_CHECKING:
    import pandas as pd


def prepare(platform: Platform, request: TrainingRequest, pipeline_run: str, plan_out: Path, dataset_out: Path) -> None:
    """Write the plan and the dataset.

    Args:
        platform: the ports.
        request: model and overrides.
        pipeline_run: the pipeline's id of this run.
        plan_out: folder for `plan.json`.
        dataset_out: folder for `dataset.json`, `train.parquet` and `holdout.parquet`.

    Raises:
        UsageError: the configuration is wrong.
        DataError: the window is outside the data, or the data breaks the contract; the message names rows and rules.
    """
    import pandas as pd

    from headrace.learning.validation import validate

    plan = make_plan(platform, request, pipeline_run)
    write_json(plan_out / handover.PLAN, plan)
    contract = contract_of(platform, request.model)
    rows = read_rows(platform.root, contract, plan.config)
    train, holdout, late = split(contract, plan.config, rows)
    progress(
        "prepare", f"dataset {plan.fingerprint.id}: {len(train):,} rows to learn from, {len(holdout):,} to judge on"
    )
    platform.features.apply()
    frame = platform.features.training_frame(contract, pd.concat([train, holdout], ignore_index=True))
    train, holdout = frame.iloc[: len(train)], frame.iloc[len(train) :]
    validate(contract, train, "the training rows")
    validate(contract, holdout, "the holdout rows")
    online = platform.features.materialise(contract, plan.config.as_of)
    dataset_out.mkdir(parents=True, exist_ok=True)
    train.to_parquet(dataset_out / handover.TRAIN_ROWS, index=False)
    holdout.to_parquet(dataset_out / handover.HOLDOUT_ROWS, index=False)
    dataset = handover.Dataset(
        id=plan.fingerprint.id,
        train_count=len(train),
        holdout_count=len(holdout),
        unlabelled_count=len(rows) - len(train) - len(holdout) - late,
        late_label_count=late,
        learnt_until=train[contract.label.time].max().to_pydatetime(),
        online_keys=online,
    )
    write_json(dataset_out / handover.DATASET, dataset)


def read_rows(root: Path, contract: Contract, config: TrainingConfig) -> "pd.DataFrame":
    """The rows of the window, with and without a label.

    Raises:
        DataError: the files lack a column or a value, or the window reaches beyond them.
    """
    import pyarrow.dataset as ds
    from pyarrow import ArrowException

    folder = root / contract.rows.source
    time = contract.rows.decision_time
    try:
        data = ds.dataset(folder, format="parquet")
        missing = sorted(_columns(contract) - set(data.schema.names))
        if missing:
            raise DataError(f"{folder} lacks the columns {missing} that models/{contract.model}/contract.yaml names")
        times = data.to_table(columns=[time])[time].to_pandas()
        _require_window(contract, config, times.min().to_pydatetime(), times.max().to_pydatetime())
        window = (ds.field(time) >= config.train_start) & (ds.field(time) < config.as_of)
        return data.to_table(columns=sorted(_columns(contract)), filter=window).to_pandas()
    except (ArrowException, OSError, TypeError) as unreadable:
        raise DataError(f"{folder} can't be read as the contract says: {unreadable}") from unreadable


def _columns(contract: Contract) -> set[str]:
    """What the rows have to hold before features of views are joined."""
    return {
        contract.rows.key,
        contract.rows.decision_time,
        contract.label.name,
        contract.label.time,
        *contract.rows.value_columns,
        *contract.entities,
        *(f.name for f in contract.features if f.view is None),
    }


def _require_window(contract: Contract, config: TrainingConfig, first: datetime, last: datetime) -> None:
    from datetime import timedelta

    # Data says what happened until its last decision; a day later is still honest, a month later would be a guess.
    if config.train_start < first - timedelta(days=1) or config.as_of > last + timedelta(days=1):
        days = config.window.train_days + config.window.holdout_days
        raise DataError(
            f"as_of={config.as_of:%Y-%m-%d} with {config.window.train_days} + {config.window.holdout_days} days needs "
            f"rows of {contract.model} from {config.train_start:%Y-%m-%d} to {config.as_of:%Y-%m-%d}, but there are "
            f"rows from {first:%Y-%m-%d} to {last:%Y-%m-%d}: choose as_of between "
            f"{first + timedelta(days=days - 1):%Y-%m-%d} and {last + timedelta(days=1):%Y-%m-%d}"
        )


def split(
    contract: Contract, config: TrainingConfig, rows: "pd.DataFrame"
) -> tuple["pd.DataFrame", "pd.DataFrame", int]:
    """Split labelled rows by time.

    A row is trained on only if its label was known when the holdout starts, and judged on only if it is known at
    `as_of`: nothing is used before it could have been.

    Returns:
        training rows, holdout rows, and the number of labelled rows that came too late for their part.

    Raises:
        DataError: one of the parts is empty.
    """
    time, known = rows[contract.rows.decision_time], rows[contract.label.time]
    labelled = rows[contract.label.name].notna() & known.notna()
    before = time < config.holdout_start
    train = rows[labelled & before & (known <= config.holdout_start)].sort_values(
        contract.rows.decision_time, kind="stable"
    )
    holdout = rows[labelled & ~before & (known <= config.as_of)].sort_values(contract.rows.decision_time, kind="stable")
    for part, name, start in ((train, "training", config.train_start), (holdout, "holdout", config.holdout_start)):
        if part.empty:
            raise DataError(f"no labelled {name} rows of {contract.model} after {start:%Y-%m-%d %H:%M}")
    return train, holdout, int(labelled.sum()) - len(train) - len(holdout)
