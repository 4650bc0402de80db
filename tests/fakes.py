"""Every port in memory or in a folder: no process, no network, and the same contract suites as the adapters."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.domain.contract import Contract
from headrace.domain.lineage import CodeVersion, DatasetFingerprint, Lineage, ModelVersion
from headrace.domain.rollout import Split
from headrace.errors import Conflict, DataError, Unavailable
from headrace.ports import Counts, Endpoint, Route
from tests.fake_registry import FakeModelRegistry

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FakeDataStore",
    "FakeDeployer",
    "FakeFeatureStore",
    "FakeMetricsSource",
    "FakeModelRegistry",
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

    def read(self, model: str) -> Route | None:
        return self._routes.get(model)

    def write(self, model: str, split: Split, seen: int, note: str) -> Route:
        generation = self._routes[model].generation if model in self._routes else 0
        if generation != seen:
            raise Conflict(f"the route of {model} is at generation {generation}, not {seen}")
        for version in split.weights:
            if version not in self._urls(model):
                raise Unavailable(f"v{version} of {model} does not run")
        self._routes[model] = Route(model, split, generation + 1, note)
        self.history.append(self._routes[model])
        return self._routes[model]

    def models(self) -> Sequence[str]:
        return sorted(self._routes)

    def url(self, model: str) -> str:
        return "http://proxy.invalid"


class FakeMetricsSource:
    """Counters that a test counts up; a version is in them once it answered or was `served`."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], Counts] = {}

    def serve(self, model: str, version: int) -> None:
        self._counts[model, version] = Counts(0, 0)

    def silence(self, model: str, version: int) -> None:
        self._counts.pop((model, version), None)

    def answer(self, model: str, version: int, count: int = 1, status: int = 200) -> None:
        before = self._counts.get((model, version), Counts(0, 0))
        errors = count if status >= 500 else 0
        self._counts[model, version] = Counts(before.answers + count, before.errors + errors)

    def counts(self, model: str) -> Mapping[int, Counts]:
        return {version: counts for (name, version), counts in self._counts.items() if name == model}


class FakeProber:
    """Answers with what the test decides, 200 unless told otherwise, and remembers whom it asked."""

    def __init__(self, answer: Callable[[str, int | None], int] = lambda model, version: 200) -> None:
        self._answer = answer
        self.sent: list[tuple[str, str, int | None]] = []

    def send(self, url: str, model: str, rows: Sequence[Mapping[str, Any]], version: int | None = None) -> int:
        self.sent.append((url, model, version))
        return self._answer(model, version)


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
