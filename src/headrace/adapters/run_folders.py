"""Where the records of pipeline runs are on this machine, in the layout of kfp.local: run, task, artefact."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from headrace import errors
from headrace.errors import HeadraceError

# Folders of earlier runs that are kept for a look; their datasets are the largest thing on disk.
_KEPT_RUNS = 5


def new_folder(home: Path, model: str) -> Path:
    """An empty folder for a run's records; those of the oldest runs go."""
    folder = home / "runs" / model / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    folder.mkdir(parents=True)
    for old in sorted(path for path in folder.parent.iterdir() if path.is_dir())[:-_KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def outputs(folder: Path, name: str) -> Path | None:
    """The file of that name among the artefacts of a run; None when its step did not get that far."""
    return next(iter(sorted(folder.glob(f"*/*/*/{name}"))), None)


def error(kind: str, message: str) -> HeadraceError:
    """The error of a step's process, as the class that it was there."""
    found = getattr(errors, kind, HeadraceError)
    return found(message) if isinstance(found, type) and issubclass(found, HeadraceError) else HeadraceError(message)
