"""Identities: which data, code and parameters made what, and what answers for them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

_STRICT = {"extra": "forbid"}


def digest(value: Any) -> str:
    """sha256, hexadecimal, of a value as canonical JSON: equal values give equal digests."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class DatasetFingerprint:
    """The identity of a dataset: what DVC stored, as of when it was looked at, and through which window.

    Attributes:
        outputs: DVC output path to its hash.
        as_of: nothing that became known later is in it (UTC).
        train_start, holdout_start: the window; training ends where the holdout starts, the holdout ends at `as_of`.
    """

    outputs: Mapping[str, str]
    as_of: datetime
    train_start: datetime
    holdout_start: datetime

    __pydantic_config__ = _STRICT

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits."""
        return digest(asdict(self))[:12]


@dataclass(frozen=True)
class CodeVersion:
    """Attributes:
    commit: git commit, or "none" outside a repository.
    dirty: whether tracked or untracked files of the code differ from it.
    content: digest of the files that can change a model: its folder, the features, the package, the pipelines.
    lock: sha256 of the file that pins the environment.
    """

    commit: str
    dirty: bool
    content: str
    lock: str

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Lineage:
    """The record that every model version carries: what made it.

    Attributes:
        run_key: idempotency key of the run: equal inputs have equal keys.
        feature_service: the Feast feature service that the features came through.
        learnt_until: no label that became known later was learnt from (UTC).
        environment: image by digest, or interpreter, platform and lock.
        pipeline_run: the pipeline's run id.
        experiment_run: the MLflow run id.
        parent: the champion's version when this one was judged; None for the first.
        files: path in the model directory to sha256; the registry completes it with what it adds.
    """

    model: str
    run_key: str
    fingerprint: DatasetFingerprint
    code: CodeVersion
    parameters: Mapping[str, Any]
    feature_service: str
    learnt_until: datetime
    environment: str
    pipeline_run: str
    experiment_run: str
    parent: int | None
    files: Mapping[str, str]
    schema_version: int = 1

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class ModelVersion:
    """A registered model version."""

    model: str
    version: int
    lineage: Lineage

    __pydantic_config__ = _STRICT

    @property
    def release(self) -> str:
        """The name of its workload, e.g. ``flight-delay-v12``."""
        return release_name(self.model, self.version)


def kebab(model: str) -> str:
    """A model's name as Kubernetes has it."""
    return model.replace("_", "-")


def release_name(model: str, version: int) -> str:
    """The workload name of a model version: kebab-case, valid as a Kubernetes name."""
    return f"{kebab(model)}-v{version}"


def run_key(model: str, fingerprint: DatasetFingerprint, settings: Mapping[str, Any], code: CodeVersion) -> str:
    """The identity of a training run: the same data, settings and code have the same key, whatever the commit says."""
    return digest([model, fingerprint.id, settings, code.content, code.lock])[:16]
