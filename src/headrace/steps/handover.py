"""What one step hands the next: values, and the names of the files that hold them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from headrace.domain.lineage import CodeVersion, DatasetFingerprint
from headrace.domain.request import TrainingConfig, TrainingRequest

_STRICT = {"extra": "forbid"}

PLAN = "plan.json"
DATASET = "dataset.json"
TRAIN_ROWS = "train.parquet"
HOLDOUT_ROWS = "holdout.parquet"
TRAINED = "trained.json"
MODEL_DIRECTORY = "model"
EVALUATION = "evaluation.json"
VERDICT = "verdict.json"
REPORT = "report.html"
REGISTERED = "version.json"
ROLLOUT = "rollout.json"


@dataclass(frozen=True)
class Plan:
    """A request with everything about it resolved: equal plans have equal `run_key`s.

    Attributes:
        pipeline_run: the pipeline's own id of the run.
        environment: image, or interpreter and platform, that runs it.
    """

    request: TrainingRequest
    config: TrainingConfig
    fingerprint: DatasetFingerprint
    code: CodeVersion
    run_key: str
    pipeline_run: str
    environment: str

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Dataset:
    """Attributes:
    id: of the fingerprint.
    unlabelled_count: rows of the window that never get a label (a cancelled flight), left out of it.
    late_label_count: rows whose label was not yet known at the end of their part, left out of it.
    learnt_until: the newest moment at which a label that is trained on became known (UTC).
    online_keys: view to number of keys in the online store.
    """

    id: str
    train_count: int
    holdout_count: int
    unlabelled_count: int
    late_label_count: int
    learnt_until: datetime
    online_keys: Mapping[str, int]

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class TrainedModel:
    """Attributes:
    experiment_run: the MLflow run.
    files: path in the model directory to sha256.
    importance: feature to loss of the primary metric when it is shuffled, in the metric's unit.
    """

    experiment_run: str
    learnt_until: datetime
    files: Mapping[str, str]
    parity_flips: int
    parity_max_difference: float
    importance: Mapping[str, float]

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Rollout:
    """How a rollout ended: `finished`, or taken back with the reason."""

    model: str
    version: int
    finished: bool
    reason: str

    __pydantic_config__ = _STRICT
