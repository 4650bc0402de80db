"""Every port in memory or in a folder: no process, no network, and the same contract suites as the adapters."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.domain.contract import Contract
from headrace.domain.evidence import Counts
from headrace.domain.lineage import CodeVersion, DatasetFingerprint, Lineage, ModelVersion
from headrace.domain.rollout import Look, RolloutState
from headrace.domain.sequences import Tally
from headrace.domain.split import Split
from headrace.errors import Conflict, DataError, Unavailable
from headrace.ports import Endpoint, Recent, Route
from tests.fake_registry import FakeModelRegistry

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FakeDataStore",
    "FakeDeployer",
    "FakeFeatureStore",
    "FakeJournal",
    "FakeMetricsSource",
    "FakeModelRegistry",
    "FakeOutcomes",
    "FakeProber",
    "FakeRouter",
    "lineage",
    "model_directory",
    "model_version",
]

FIRST_DAY = datetime(2013, 7, 1, tzinfo=UTC)


def lineage(model: str = "flight_delay", run_key: str = "k1", **changes: Any) -> Lineage:
    """A complete lineage, with what a test wants to be different."""
    made = Lineage(
        model=model,
        run_key=run_key,
        fingerprint=DatasetFingerprint({"data": "h1"}, FIRST_DAY, FIRST_DAY, FIRST_DAY),
        code=CodeVersion(commit="none", dirty=False, content="c1", lock="l1"),
        parameters={},
        feature_service=f"{model}_v1",
        learnt_until=FIRST_DAY,
        environment="python 3.11",
        pipeline_run="p1",
        experiment_run="e1",
        parent=None,
        files={},
    )
    return replace(made, **changes)


def model_version(version: int, model: str = "flight_delay") -> ModelVersion:
    """A version that nothing was trained for."""
    return ModelVersion(model, version, lineage(model, run_key=f"k{version}"))


def model_directory(path: Path, model: str, version: int, **switches: str) -> Path:
    """What FakeDeployer and the stand-in service can run; a switch is a file: ``refuses``, ``not_ready`` and others."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "release.json").write_text(json.dumps({"model": model, "version": version}))
    for name, text in switches.items():
        (path / name).write_text(text)
    for name in ("contract.json", "golden.json", "model.onnx"):
        (path / name).touch()
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}
    manifest = {"schema_version": 1, "model": model, "version": version, "files": files}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


class FakeDeployer:
    """Says that it runs what it was given, unless the directory's switches say otherwise."""

    def __init__(self) -> None:
        self._directories: dict[tuple[str, int], Path] = {}

    def start(self, version: ModelVersion, directory: Path, timeout_s: float) -> Endpoint:
        if (directory / "refuses").exists():
            raise Unavailable(f"{version.release} stopped while it started: {(directory / 'refuses').read_text()}")
        if (directory / "not_ready").exists():
            raise Unavailable(f"{version.release} is not ready within {timeout_s:g} s: its log says nothing")
        self._directories[version.model, version.version] = directory
        return self._endpoint(version.model, version.version)

    def stop(self, model: str, version: int) -> None:
        self._directories.pop((model, version), None)

    def running(self, model: str) -> Sequence[Endpoint]:
        return [self._endpoint(*key) for key in sorted(self._directories) if key[0] == model]

    def _endpoint(self, model: str, version: int) -> Endpoint:
        ready = not (self._directories[model, version] / "not_ready").exists()
        return Endpoint(model, version, f"http://{model}-v{version}.invalid", ready)


class FakeRouter:
    """Holds splits of versions that `urls` says are running."""

    def __init__(self, urls: Callable[[str], Mapping[int, str]]) -> None:
        self._urls = urls
        self._routes: dict[str, Route] = {}
        self.history: list[Route] = []
        self.drift: dict[str, str] = {}

    def read(self, model: str) -> Route | None:
        return self._routes.get(model)

    def write(self, model: str, split: Split, seen: int, note: str, rollout: RolloutState | None = None) -> Route:
        generation = self._routes[model].generation if model in self._routes else 0
        if generation != seen:
            raise Conflict(f"the route of {model} is at generation {generation}, not {seen}")
        for version in (*split.weights, *([split.shadow] if split.shadow else [])):
            if version not in self._urls(model):
                raise Unavailable(f"v{version} of {model} does not run")
        self._routes[model] = Route(model, split, generation + 1, note, rollout)
        self.drift.pop(model, None)
        self.history.append(self._routes[model])
        return self._routes[model]

    def drifted(self, model: str) -> str | None:
        return self.drift.get(model)

    def models(self) -> Sequence[str]:
        return sorted(self._routes)

    def url(self, model: str) -> str:
        return "http://proxy.invalid"


class FakeMetricsSource:
    """Counters that a test counts up; a version is in them once it answered or was `served`."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], Counts] = {}
        self._recent: dict[tuple[str, int], dict[str, float]] = {}

    def serve(self, model: str, version: int) -> None:
        """As a process that has just started does; of one that was there, the counters begin anew."""
        before = self._counts.get((model, version))
        self._counts[model, version] = Counts(0, 0, started_at=(before.started_at or 0) + 1 if before else 1)
        self._recent.pop((model, version), None)

    def silence(self, model: str, version: int) -> None:
        self._counts.pop((model, version), None)

    def answer(self, model: str, version: int, count: int = 1, status: int = 200, **more: Any) -> None:
        """Count answers, and what else is named (`rows`, `bad_outputs`, `fallbacks`, `durations`, `scores`)."""
        before = self._counts.get((model, version), Counts(0, 0, started_at=1))
        errors = count if status >= 500 else 0
        refusals = count if 400 <= status < 500 else 0
        added: dict[str, Any] = {}
        for name, value in more.items():
            had = getattr(before, name)
            added[name] = (
                {key: had.get(key, 0) + one for key, one in value.items()} if isinstance(value, dict) else had + value
            )
        self._counts[model, version] = replace(
            before,
            answers=before.answers + count,
            errors=before.errors + errors,
            refusals=before.refusals + refusals,
            **added,
        )

    def tell(self, model: str, version: int, scores: Mapping[str, float]) -> None:
        """Predict rows: digest to score."""
        self._recent.setdefault((model, version), {}).update(scores)

    def counts(self, model: str) -> Mapping[int, Counts]:
        return {version: counts for (name, version), counts in self._counts.items() if name == model}

    def recent(self, model: str) -> Mapping[int, Recent]:
        return {version: Recent(dict(scores)) for (name, version), scores in self._recent.items() if name == model}


class FakeOutcomes:
    """Predictions that a test says the outcome of."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], list[tuple[float, float]]] = {}

    def know(self, model: str, version: int, loss: float, at: float, count: int = 1) -> None:
        """So many more predictions, made at that time, have this loss."""
        self._known.setdefault((model, version), []).extend([(at, loss)] * count)

    def losses(
        self, model: str, contract: Contract, versions: Sequence[int], since: float, span: float | None = None
    ) -> Mapping[int, Tally]:
        known = {one: [loss for at, loss in self._known.get((model, one), []) if at >= since] for one in versions}
        return {version: Tally(min(sum(found), len(found)), len(found)) for version, found in known.items() if found}


class FakeProber:
    """Answers with what the test decides, 200 unless told otherwise, and remembers whom it asked."""

    def __init__(
        self,
        answer: Callable[[str, int | None], int] = lambda model, version: 200,
        score: Callable[[str, Mapping[str, Any]], float] = lambda url, row: 0.5,
    ) -> None:
        self._answer = answer
        self._score = score
        self.sent: list[tuple[str, str, int | None]] = []

    def send(self, url: str, model: str, rows: Sequence[Mapping[str, Any]], version: int | None = None) -> int:
        self.sent.append((url, model, version))
        return self._answer(model, version)

    def scores(self, url: str, model: str, rows: Sequence[Mapping[str, Any]]) -> Sequence[float] | None:
        return [self._score(url, row) for row in rows]


class FakeJournal:
    """Remembers."""

    def __init__(self) -> None:
        self._looks: dict[tuple[str, str], list[Look]] = {}

    def append(self, model: str, rollout: str, look: Look) -> None:
        self._looks.setdefault((model, rollout), []).append(look)

    def looks(self, model: str, rollout: str) -> Sequence[Look]:
        return list(self._looks.get((model, rollout), []))


class FakeDataStore:
    """Stages whose outputs are known; `fail` makes one fail."""

    def __init__(self, outputs: Mapping[str, Mapping[str, str]]) -> None:
        self._outputs = outputs
        self.failing: dict[str, str] = {}
        self.brought: list[str] = []

    def bring(self, stage: str) -> Mapping[str, str]:
        if stage in self.failing or stage not in self._outputs:
            raise DataError(f"{stage} failed: {self.failing.get(stage, 'there is no such file')}")
        self.brought.append(stage)
        return dict(self._outputs[stage])


class FakeFeatureStore:
    """Joins frames by view, each with the view's entity, its time column and its features."""

    def __init__(self, views: Mapping[str, "pd.DataFrame"]) -> None:
        self._views = views
        self.applied_count = 0

    def apply(self) -> None:
        self.applied_count += 1

    def training_frame(self, contract: Contract, rows: "pd.DataFrame") -> "pd.DataFrame":
        import pandas as pd

        made = rows.copy()
        made["_order"] = range(len(made))
        for name, view in contract.views.items():
            features = [feature.name for feature in contract.features if feature.view == name]
            right = self._views[name][[view.entity, view.time, *features]].sort_values(view.time)
            made = pd.merge_asof(
                made.sort_values(contract.rows.decision_time),
                right,
                left_on=contract.rows.decision_time,
                right_on=view.time,
                by=view.entity,
                tolerance=pd.Timedelta(hours=view.max_age_h),
            ).drop(columns=[view.time])
        return made.sort_values("_order").drop(columns=["_order"]).reset_index(drop=True)

    def materialise(self, contract: Contract, as_of: datetime) -> Mapping[str, int]:
        known = {name: self._views[name] for name in contract.views}
        return {
            name: int(frame.loc[frame[contract.views[name].time] <= as_of, contract.views[name].entity].nunique())
            for name, frame in known.items()
        }
