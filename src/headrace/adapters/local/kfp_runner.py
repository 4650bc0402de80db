"""The training pipeline on this machine, by kfp.local: the same components and edges as in a cluster."""

import importlib
import io
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TextIO

from headrace import running
from headrace.adapters.run_folders import error, new_folder, outputs
from headrace.domain.request import TrainingRequest
from headrace.errors import HeadraceError, UsageError
from headrace.ports import Schedule, StepEvent
from headrace.settings import Settings, variable

__all__ = ["LocalKfpRunner", "outputs"]


class LocalKfpRunner:
    """The PipelineRunner port. Each step is a process; its JSON events come back through kfp's own log."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def submit(self, request: TrainingRequest, follow: Callable[[StepEvent], None]) -> Path:
        """See the port."""
        folder = new_folder(self._settings.home, request.model)
        log = folder / "log.txt"
        failures: list[HeadraceError] = []

        def on_line(line: str) -> None:
            event = running.parse(line)
            if event:
                if event[0].state == "failed":
                    failures.append(error(event[1], event[0].message))
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

    def schedule(self, request: TrainingRequest, cron: str) -> Schedule:
        """Raises UsageError: nothing of ours runs here that could keep a schedule."""
        raise UsageError(
            f"schedules need Kubeflow Pipelines; on one machine let cron run `headrace run {request.model}`"
        )

    def schedules(self) -> Sequence[Schedule]:
        """See the port: there are none here."""
        return ()

    def unschedule(self, model: str) -> bool:
        """See the port: there is none here."""
        return False

    def _run(self, request: TrainingRequest, folder: Path) -> None:
        sys.path.insert(0, str(self._settings.root))
        with warnings.catch_warnings(), _environment(self._settings, folder / "tmp"):
            # kfp advises a container for images whose name lacks "python".
            warnings.simplefilter("ignore")
            from kfp import local

            pipeline = importlib.import_module("pipelines.training").training
            local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder), raise_on_error=True)
            pipeline(model=request.model, overrides=list(request.overrides), reason=request.reason)


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
