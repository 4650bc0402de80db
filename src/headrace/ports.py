"""Every boundary of Headrace on one page.

Each port has a fake (tests/fakes.py), a local adapter and, where it makes sense, a cluster adapter; one contract
suite holds them all. No exception of a foreign library passes a port: adapters raise `headrace.errors`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from headrace.domain.contract import Contract
from headrace.domain.evidence import Counts
from headrace.domain.lineage import CodeVersion, Lineage, ModelVersion
from headrace.domain.request import TrainingRequest
from headrace.domain.rollout import Look, RolloutState
from headrace.domain.sequences import Tally
from headrace.domain.split import Split

if TYPE_CHECKING:
    import pandas as pd


# The tag of the tracker's runs that belong to a run of the pipeline.
PIPELINE_RUN = "headrace.pipeline_run"


class DataStore(Protocol):
    """Data under version control (DVC)."""

    def bring(self, stage: str) -> Mapping[str, str]:
        """Reproduce the stages of a dvc.yaml (path relative to the project) and return output path to hash.

        A second call with nothing changed does nothing.

        Raises:
            DataError: a stage failed; the message has its last lines.
        """
        ...


class FeatureStore(Protocol):
    """Feature values over time (Feast)."""

    def apply(self) -> None:
        """Write the definitions of all contracts to the registry. Idempotent."""
        ...

    def training_frame(self, contract: Contract, rows: "pd.DataFrame") -> "pd.DataFrame":
        """Complete rows with every feature of a view, as known at each row's decision time.

        Args:
            contract: names the views, the decision time and the join keys.
            rows: has the key, the decision time (UTC), the entities and the request-time features.

        Returns:
            The rows in the same order, with a column for every feature of the contract; a value that was not known
            yet, or older than the view's `max_age_h`, is null.
        """
        ...

    def materialise(self, contract: Contract, as_of: datetime) -> Mapping[str, int]:
        """Write the values as known at `as_of` to the online store; view to number of keys."""
        ...


@dataclass(frozen=True)
class RunRecord:
    """What a training run leaves in the experiment tracker, besides the model."""

    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Judged:
    """A recorded verdict.

    Attributes:
        champion: the version that it was judged against; None for the first.
    """

    promote: bool
    summary: str
    champion: int | None


class ModelRegistry(Protocol):
    """Runs, metrics, artefacts, versions and the champion alias (MLflow)."""

    def start_run(self, model: str, run_key: str, tags: Mapping[str, str]) -> str:
        """Open a run and return its id. Runs of the same key that were left open are closed as killed."""
        ...

    def log_run(self, run_id: str, record: RunRecord) -> None:
        """Add parameters, metrics and tags to a run. Idempotent for equal values."""
        ...

    def log_dataset(self, run_id: str, name: str, digest: str, source: str, context: str) -> None:
        """Record which dataset a run used; `context` is training or holdout."""
        ...

    def log_files(self, run_id: str, files: Path, under: str) -> None:
        """Add a file, or all files of a folder, to a run's artefacts."""
        ...

    def end_run(self, run_id: str, succeeded: bool) -> None:
        """Close a run. Idempotent."""
        ...

    def find(self, model: str, run_key: str) -> ModelVersion | None:
        """The version that answers for these inputs."""
        ...

    def verdict(self, model: str, run_key: str) -> "Judged | None":
        """The recorded verdict of the last finished run of this key; None when there is none."""
        ...

    def record_verdict(self, run_id: str, judged: "Judged") -> None:
        """Note on a run how it was judged; `verdict` reads it."""
        ...

    def register(self, lineage: Lineage, directory: Path) -> ModelVersion:
        """Store a model directory and its lineage as a new version: all of it, or nothing.

        Idempotent by `lineage.run_key`: a second call returns the first version.
        """
        ...

    def version(self, model: str, version: int) -> ModelVersion:
        """Raises DataError when there is no such version."""
        ...

    def versions(self, model: str) -> Sequence[ModelVersion]:
        """All versions, newest first; empty for an unknown model."""
        ...

    def alias(self, model: str, alias: str) -> int | None:
        """The version that an alias (champion, challenger) names; None when there is none."""
        ...

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point an alias at a version."""
        ...

    def clear_alias(self, model: str, alias: str) -> None:
        """Forget an alias. Idempotent."""
        ...

    def record_rollout(self, model: str, version: int, outcome: str) -> None:
        """Note on a version how its rollout ended: finished, or taken back and why."""
        ...

    def rollout(self, model: str, version: int) -> str | None:
        """What `record_rollout` noted last; None when no rollout of it has ended."""
        ...

    def download(self, version: ModelVersion, to: Path) -> Path:
        """Put the version's model directory at `to`, whole or not at all, every file checked against its sha256.

        Raises:
            IntegrityError: a file differs from the recorded digest.
        """
        ...


@dataclass(frozen=True)
class Endpoint:
    """A running release."""

    model: str
    version: int
    url: str
    ready: bool


class Deployer(Protocol):
    """Workloads, one a model version."""

    def start(self, version: ModelVersion, directory: Path, timeout_s: float) -> Endpoint:
        """Run a version from its model directory and wait until it is ready. Idempotent.

        Raises:
            Unavailable: it did not become ready in time, or stopped; the message says why, from its own log.
        """
        ...

    def stop(self, model: str, version: int) -> None:
        """Drain and remove a version's workload. Idempotent."""
        ...

    def running(self, model: str) -> Sequence[Endpoint]:
        """Every workload of a model, oldest version first, whether it is ready or not."""
        ...


@dataclass(frozen=True)
class Route:
    """What the router holds for a model.

    Attributes:
        generation: goes up by one with every write; the proof of having seen the last one.
        note: why the last write was made.
        rollout: where the last rollout is, or how it ended; None when there was none since the first version.
    """

    model: str
    split: Split
    generation: int
    note: str = ""
    rollout: RolloutState | None = None


class Router(Protocol):
    """Traffic weights of a model and the state of its rollout: one atomic, compare-and-swapped write."""

    def read(self, model: str) -> Route | None:
        """None when the model has no route yet."""
        ...

    def write(self, model: str, split: Split, seen: int, note: str, rollout: RolloutState | None = None) -> Route:
        """Replace the split and the rollout's state, and wait until the proxy holds the split.

        Args:
            model: whose traffic.
            split: the new split; each of its versions must be running.
            seen: the generation that the caller read; 0 for the first write.
            note: why, in a sentence.
            rollout: the state that goes with the split.

        Raises:
            Conflict: somebody else wrote since; nothing was changed.
            Unavailable: the proxy does not take it over in time.
        """
        ...

    def drifted(self, model: str) -> str | None:
        """How what the proxy has differs from what was written last, in a sentence; None when it does not.

        A `write` puts it right.
        """
        ...

    def models(self) -> Sequence[str]:
        """The models that have a route."""
        ...

    def url(self, model: str) -> str:
        """Where clients send a model's requests."""
        ...


class MetricsSource(Protocol):
    """The services' own metrics, by version."""

    def counts(self, model: str) -> Mapping[int, Counts]:
        """Version to counters; a version that gives none is not in it."""
        ...

    def recent(self, model: str) -> "Mapping[int, Recent]":
        """Version to its latest predictions.

        Versions with equal features give equal rows equal digests. A version that gives none is not in it.
        """
        ...


class Outcomes(Protocol):
    """What became of what was predicted, by version."""

    def losses(
        self, model: str, contract: Contract, versions: Sequence[int], since: float, span: float | None = None
    ) -> Mapping[int, Tally]:
        """Version to the loss of its predictions whose label is known by now (`headrace.domain.metrics.losses`).

        Requests with several rows count as one, by their mean; what a rollout itself asked for does not count.

        Args:
            model: whose predictions.
            contract: says what a label is.
            versions: those to tell about; one without labelled predictions is not in it.
            since: only predictions made and labels received since then, seconds since 1970.
            span: what counts as entirely wrong for a regression.

        Raises:
            Unavailable: they can't be read, or not soon enough; trying again later may work.
        """
        ...


class Recent(NamedTuple):
    """The latest predictions of a version.

    Attributes:
        scores: digest of a row to its score.
        repeated: share of the rows that clients sent which are not the first of their kind.
    """

    scores: Mapping[str, float]
    repeated: float = 0.0


class Journal(Protocol):
    """What a rollout saw and did, look by look."""

    def append(self, model: str, rollout: str, look: Look) -> None:
        """Add a look to the record of a rollout."""
        ...

    def looks(self, model: str, rollout: str) -> Sequence[Look]:
        """The looks of a rollout in order; empty for an unknown one."""
        ...


@dataclass(frozen=True)
class StepEvent:
    """Progress of a step: `state` is started, progress, succeeded or failed."""

    step: str
    state: str
    message: str = ""
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """A training that is asked for again and again.

    Attributes:
        cron: six fields, seconds first (``0 30 3 * * *`` is half past three every night), UTC.
        active: False when somebody has paused it.
    """

    request: TrainingRequest
    cron: str
    active: bool = True


class PipelineRunner(Protocol):
    """Runs the training pipeline (Kubeflow Pipelines)."""

    def submit(self, request: TrainingRequest, follow: Callable[[StepEvent], None]) -> Path:
        """Run the pipeline to its end and return the folder with its records.

        Raises:
            HeadraceError: a step failed; the error is the step's own.
        """
        ...

    def schedule(self, request: TrainingRequest, cron: str) -> Schedule:
        """Run the pipeline by the clock, one run at a time, without making up for missed ones.

        A model has at most one schedule: a second call replaces it, and does nothing when nothing differs.

        Raises:
            UsageError: `cron` is wrong, or there is nothing here that keeps schedules.
        """
        ...

    def schedules(self) -> Sequence[Schedule]:
        """What is scheduled, by model."""
        ...

    def unschedule(self, model: str) -> bool:
        """Forget a model's schedule; whether there was one. Runs that have begun go on."""
        ...


class Prober(Protocol):
    """A client of the service, for evidence where there is no traffic."""

    def send(self, url: str, model: str, rows: Sequence[Mapping[str, Any]], version: int | None = None) -> int:
        """Ask for predictions of `rows` and return the HTTP status; 0 when there was no answer.

        Args:
            url: the proxy's or a service's address, without a path.
            model: which model.
            rows: complete rows.
            version: ask for this version, through the proxy.
        """
        ...

    def scores(self, url: str, model: str, rows: Sequence[Mapping[str, Any]]) -> Sequence[float] | None:
        """The scores of complete rows, as the service counts them; None when there was no such answer."""
        ...


@dataclass(frozen=True)
class Platform:
    """Every port that a step may use, wired by `headrace.bootstrap`."""

    root: Path
    home: Path
    environment: str
    code_version: Callable[[str], CodeVersion]
    data: DataStore
    features: FeatureStore
    registry: ModelRegistry
    deployer: Deployer
    router: Router
    metrics: MetricsSource
    prober: Prober
    journal: Journal
    outcomes: Outcomes

    def model_directory(self, version: ModelVersion) -> Path:
        """A version's model directory on this machine, fetched if it is not there yet, and checked either way."""
        return self.registry.download(version, self.home / "versions" / version.release)
