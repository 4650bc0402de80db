"""A model registry in memory, with its files in a folder."""

import hashlib
import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from headrace.domain.lineage import Lineage, ModelVersion
from headrace.errors import DataError, IntegrityError
from headrace.ports import Judged, RunRecord


@dataclass
class FakeRun:
    """A run; `status` is open, finished, failed or killed."""

    model: str
    run_key: str
    tags: dict[str, str]
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    datasets: list[tuple[str, str, str, str]] = field(default_factory=list)
    judged: Judged | None = None
    status: str = "open"


class FakeModelRegistry:
    """Keeps artefacts in ``folder/<run id>`` and versions in ``folder/<model>/<version>``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids = itertools.count(1)
        self._versions: dict[str, list[ModelVersion]] = {}
        self._aliases: dict[tuple[str, str], int] = {}
        self._rollouts: dict[tuple[str, int], str] = {}
        self.runs: dict[str, FakeRun] = {}

    def start_run(self, model: str, run_key: str, tags: Mapping[str, str]) -> str:
        for run in self.runs.values():
            if (run.model, run.run_key, run.status) == (model, run_key, "open"):
                run.status = "killed"
        run_id = f"run{next(self._ids)}"
        self.runs[run_id] = FakeRun(model, run_key, dict(tags))
        return run_id

    def log_run(self, run_id: str, record: RunRecord) -> None:
        run = self.runs[run_id]
        run.parameters.update(record.parameters)
        run.metrics.update(record.metrics)
        run.tags.update(record.tags)

    def log_dataset(self, run_id: str, name: str, digest: str, source: str, context: str) -> None:
        self.runs[run_id].datasets.append((name, digest, source, context))

    def log_files(self, run_id: str, files: Path, under: str) -> None:
        target = self._folder / run_id / under
        target.mkdir(parents=True, exist_ok=True)
        if files.is_dir():
            shutil.copytree(files, target, dirs_exist_ok=True)
        else:
            shutil.copy(files, target)

    def end_run(self, run_id: str, succeeded: bool) -> None:
        if self.runs[run_id].status == "open":
            self.runs[run_id].status = "finished" if succeeded else "failed"

    def find(self, model: str, run_key: str) -> ModelVersion | None:
        return next((v for v in self.versions(model) if v.lineage.run_key == run_key), None)

    def verdict(self, model: str, run_key: str) -> Judged | None:
        finished = [r for r in self.runs.values() if (r.model, r.run_key, r.status) == (model, run_key, "finished")]
        return next((run.judged for run in reversed(finished) if run.judged), None)

    def record_verdict(self, run_id: str, judged: Judged) -> None:
        self.runs[run_id].judged = judged

    def register(self, lineage: Lineage, directory: Path) -> ModelVersion:
        known = self.find(lineage.model, lineage.run_key)
        if known:
            return known
        number = len(self._versions.get(lineage.model, [])) + 1
        shutil.copytree(directory, self._stored(lineage.model, number))
        made = ModelVersion(lineage.model, number, replace(lineage, files=_digests(directory)))
        self._versions.setdefault(lineage.model, []).append(made)
        return made

    def version(self, model: str, version: int) -> ModelVersion:
        for known in self.versions(model):
            if known.version == version:
                return known
        raise DataError(f"{model} has no version {version}")

    def versions(self, model: str) -> Sequence[ModelVersion]:
        return list(reversed(self._versions.get(model, [])))

    def alias(self, model: str, alias: str) -> int | None:
        return self._aliases.get((model, alias))

    def set_alias(self, model: str, alias: str, version: int) -> None:
        self._aliases[model, alias] = self.version(model, version).version

    def clear_alias(self, model: str, alias: str) -> None:
        self._aliases.pop((model, alias), None)

    def record_rollout(self, model: str, version: int, outcome: str) -> None:
        self._rollouts[model, version] = outcome

    def rollout(self, model: str, version: int) -> str | None:
        return self._rollouts.get((model, version))

    def download(self, version: ModelVersion, to: Path) -> Path:
        stored = self._stored(version.model, version.version)
        if _digests(stored) != dict(version.lineage.files):
            raise IntegrityError(f"the files of {version.release} are not the recorded ones")
        shutil.copytree(stored, to, dirs_exist_ok=True)
        return to

    def _stored(self, model: str, version: int) -> Path:
        return self._folder / model / str(version)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
