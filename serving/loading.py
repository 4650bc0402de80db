"""A model directory to a model in memory: digests first, then contents, then the proof that it answers as trained.

    manifest.json   model, version, and the sha256 of every other file
    contract.json   the contract
    model.onnx      the model
    golden.json     rows, and what the model answered for them when it was trained
    model.sig       if it was signed: see `serving.signature`

Nothing in the directory is trusted to be there for a good reason: a link, a folder or a file that the manifest does
not list is refused, and only the first four files are ever parsed here. Nothing is unpickled.
"""

import hashlib
import io
import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from headrace.documents import bind
from headrace.domain.contract import Contract
from headrace.errors import DataError, HeadraceError, IntegrityError
from serving.model import LoadedModel, OnnxSession
from serving.rows import RowProblems
from serving.signature import SIGNATURE, signed_manifest_digest

MANIFEST = "manifest.json"
_NEEDED = ("model.onnx", "contract.json", "golden.json")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_STRICT = {"extra": "forbid"}

# Far above any model that answers in milliseconds; the file is held in memory while it is read.
MAX_FILE_BYTES = 512 * 1024 * 1024

# What may hold up the event loop: a hop to a thread costs 0.2 ms, a tenth of this.
_INLINE_S = 0.002
_MEASURED_ROWS = 32


@dataclass(frozen=True)
class Manifest:
    """What the directory holds; `files` is name to sha256."""

    model: str
    version: int
    files: Mapping[str, str]
    schema_version: Literal[1]

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if self.version < 1:
            raise ValueError(f"version {self.version} is none: versions start at 1")
        for name, digest in self.files.items():
            if not _NAME.fullmatch(name) or name == MANIFEST:
                raise ValueError(f"{name!r} is not the name of a file in the model directory")
            if not _SHA256.fullmatch(digest):
                raise ValueError(f"the sha256 of {name!r} is not one")
        missing = sorted(set(_NEEDED) - set(self.files))
        if missing:
            raise ValueError(f"{missing} are not listed")


@dataclass(frozen=True)
class Golden:
    """Rows and their predictions, one a row: a number, or for multiclass one number a class.

    Attributes:
        tolerance: largest difference, absolute or relative, whichever allows more.
    """

    rows: tuple[Mapping[str, Any], ...]
    predictions: tuple[float | tuple[float, ...], ...]
    tolerance: float

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if not self.rows or len(self.rows) != len(self.predictions):
            raise ValueError(f"{len(self.rows)} rows and {len(self.predictions)} predictions: one each, at least one")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance {self.tolerance} is not between 0 and 1")


def load(directory: Path, public_key: Path | None = None) -> LoadedModel:
    """Load the model in a directory.

    Args:
        directory: the model directory.
        public_key: of whoever has to have signed it; None asks for no signature.

    Raises:
        IntegrityError: a file is missing, is not the recorded one, is not listed, or is not what was signed.
        DataError: there is no such directory, or what it holds is no model for its contract.
        UsageError: the public key is none.
    """
    manifest = _read_manifest(directory, public_key)
    content = _read_listed(directory, manifest)
    contract = bind(Contract, _json(content["contract.json"], "contract.json"), "contract.json", DataError)
    if contract.model != manifest.model:
        raise IntegrityError(f"{MANIFEST} is of {manifest.model!r}, but contract.json is of {contract.model!r}")
    golden = bind(Golden, _json(content["golden.json"], "golden.json"), "golden.json", DataError)
    session = OnnxSession(content["model.onnx"], len(contract.features))
    model = LoadedModel(contract, manifest.version, session)
    _check_golden(model, golden)
    span = (float(np.min(golden.predictions)), float(np.max(golden.predictions)))
    return replace(model, inline_rows=_inline_rows(model, golden), golden_span=span)


def _read_manifest(directory: Path, public_key: Path | None) -> Manifest:
    if not directory.is_dir():
        raise DataError(f"{directory} is not a model directory: it is not there, or is not a directory")
    path = directory / MANIFEST
    signed = None if public_key is None else signed_manifest_digest(directory, public_key)
    data = _read(path)
    # The signature vouches for these bytes, and they for all others.
    if signed is not None and hashlib.sha256(data).hexdigest() != signed:
        raise IntegrityError(f"{path} changed after its signature was verified: download the model version again")
    manifest = parse_manifest(data, str(path))
    unlisted = sorted({entry.name for entry in directory.iterdir()} - set(manifest.files) - {MANIFEST, SIGNATURE})
    if unlisted:
        raise IntegrityError(f"{directory} holds {unlisted[:3]}, which {MANIFEST} does not list: remove it")
    return manifest


def parse_manifest(data: bytes, where: str) -> Manifest:
    """What a manifest lists. Raises IntegrityError when it is none."""
    found: Manifest = bind(Manifest, _json(data, MANIFEST, IntegrityError), where, IntegrityError)
    return found


def _read_listed(directory: Path, manifest: Manifest) -> dict[str, bytes]:
    """Every listed file's bytes are compared with its digest; those that are parsed are these bytes, read once."""
    content = {}
    for name, expected in manifest.files.items():
        data = _read(directory / name)
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            raise IntegrityError(
                f"{directory / name} is not the recorded file: sha256 is {found}, expected {expected}; "
                "download the model version again"
            )
        if name in _NEEDED:
            content[name] = data
    return content


def _read(path: Path) -> bytes:
    try:
        with io.FileIO(path, opener=_open_plainly) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise IntegrityError(f"{path} is not a regular file; a model directory holds no other")
            if status.st_size > MAX_FILE_BYTES:
                raise IntegrityError(f"{path} has {status.st_size} bytes; at most {MAX_FILE_BYTES} are read")
            return file.readall()
    except FileNotFoundError as missing:
        raise IntegrityError(f"{path} is missing: download the model version again") from missing
    except OSError as refused:
        why = "is a symbolic link" if path.is_symlink() else f"can't be read: {refused.strerror}"
        raise IntegrityError(f"{path} {why}; a model directory holds regular files only") from refused


def _open_plainly(path: str, flags: int) -> int:
    # Links are not followed, and a pipe does not hold us up.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _json(data: bytes, name: str, error: type[HeadraceError] = DataError) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as broken:
        raise error(f"{name} is not JSON: {broken}") from broken


def _check_golden(model: LoadedModel, golden: Golden) -> None:
    try:
        found = np.asarray(model.predict(model.matrix(golden.rows)), dtype=np.float64)
    except RowProblems as problems:
        raise DataError(f"golden.json does not keep to contract.json: {problems.sentences[0]}") from problems
    except DataError:
        raise
    except Exception as broken:  # whatever onnxruntime raises for a model that can't be run
        raise DataError(f"model.onnx can't be run: {type(broken).__name__}") from broken
    if len({np.shape(prediction) for prediction in golden.predictions} | {found.shape[1:]}) != 1:
        raise DataError(f"golden.json: its predictions are not of the shape that task {model.contract.task} has")
    expected = np.asarray(golden.predictions, dtype=np.float64)
    difference = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    # Asked this way round, NaN does not pass.
    if not (difference <= golden.tolerance).all():
        raise IntegrityError(
            f"{model.name} version {model.version} does not answer as it was trained to: a golden prediction is off by "
            f"{np.max(difference):.3g}, allowed is {golden.tolerance:g}"
        )


def _inline_rows(model: LoadedModel, golden: Golden) -> int:
    """How many rows the model answers within `_INLINE_S`, as measured: the best of three, so that noise counts less."""
    rows = [golden.rows[i % len(golden.rows)] for i in range(_MEASURED_ROWS)]
    elapsed_s = []
    for _ in range(3):
        start = time.perf_counter()
        model.predict(model.matrix(rows))
        elapsed_s.append(time.perf_counter() - start)
    return int(_INLINE_S / min(elapsed_s) * _MEASURED_ROWS)
