"""The training pipeline on this machine, by kfp.local: the same components and edges as in a cluster."""

import importlib
import io
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from headrace import errors, running
from headrace.domain.request import TrainingRequest
from headrace.errors import HeadraceError
from headrace.ports import StepEvent
from headrace.settings import Settings, variable

# Folders of earlier runs that are kept for a look; their datasets are the largest thing on disk.
_KEPT_RUNS = 5


class LocalKfpRunner:
    """The PipelineRunner port. Each step is a process; its JSON events come back through kfp's own log."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def submit(self, request: TrainingRequest, follow: Callable[[StepEvent], None]) -> Path:
        """See the port."""
        folder = self._settings.home / "runs" / request.model / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        folder.mkdir(parents=True)
        self._prune(folder.parent)
        log = folder / "log.txt"
        failures: list[HeadraceError] = []

        def on_line(line: str) -> None:
            event = running.parse(line)
            if event:
                if event[0].state == "failed":
                    failures.append(_error(event[1], event[0].message))
                follow(event[0])

        with log.open("w") as file, redirect_stdout(_Lines(file, on_line)):
            try:
                self._run(request, folder)
            except RuntimeError as failed:
                if not failures:
                    failures.append(HeadraceError(f"the pipeline failed ({failed}); its log is {log}"))
        if failures:
            raise failures[0]
        return folder

    def _run(self, request: TrainingRequest, folder: Path) -> None:
        sys.path.insert(0, str(self._settings.root))
        with warnings.catch_warnings(), _environment(self._settings, folder / "tmp"):
            # kfp advises a container for images whose name lacks "python".
            warnings.simplefilter("ignore")
            from kfp import local

            pipeline = importlib.import_module("pipelines.training").training
            local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder), raise_on_error=True)
            pipeline(model=request.model, overrides=list(request.overrides), reason=request.reason)

    def _prune(self, runs: Path) -> None:
        finished = sorted(path for path in runs.iterdir() if path.is_dir())
        for old in finished[:-_KEPT_RUNS]:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _environment(settings: Settings, scratch: Path) -> Iterator[None]:
    """What steps find in their environment; kfp and Feast never remove their temporary files, so those get a place."""
    scratch.mkdir()
    given = {
        variable("project"): str(settings.root),
        variable("home"): str(settings.home),
        running.RUNNER_PID: str(os.getpid()),
        "TMPDIR": str(scratch),
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    tempfile.tempdir = None
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        tempfile.tempdir = None
        shutil.rmtree(scratch, ignore_errors=True)


def outputs(folder: Path, name: str) -> Path | None:
    """The file of that name among the artefacts of a run; None when its step did not get that far."""
    return next(iter(sorted(folder.glob(f"*/*/*/{name}"))), None)


def _error(kind: str, message: str) -> HeadraceError:
    """The error of a step's process, as the class that it was there."""
    found = getattr(errors, kind, HeadraceError)
    return found(message) if isinstance(found, type) and issubclass(found, HeadraceError) else HeadraceError(message)


class _Lines(io.TextIOBase):
    """Copies what is written to a file, and hands on every whole line."""

    def __init__(self, file: TextIO, on_line: Callable[[str], None]) -> None:
        self._file, self._on_line, self._rest = file, on_line, ""

    def write(self, text: str) -> int:
        self._file.write(text)
        self._file.flush()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._on_line(line)
        return len(text)

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()
