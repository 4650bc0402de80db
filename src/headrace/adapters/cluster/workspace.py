"""A project that a step may write to, in a pod whose image is read-only."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from headrace.errors import UsageError
from headrace.settings import Settings, variable

# DVC writes its locks, its configuration and its data into the project; data that is in the image would be stale.
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".headrace", "__pycache__", "data", "tests", "benchmarks", "docs")


def own(settings: Settings) -> Settings:
    """The settings of a copy of the project in the home folder, and a home for libraries that want one.

    Raises:
        UsageError: the home folder is inside the project, or can't be written.
    """
    if settings.home.is_relative_to(settings.root):
        raise UsageError(
            f"{variable('home')}={settings.home} is inside the project {settings.root}: "
            "in a pod, name a folder of its own that can be written, for example /tmp/headrace"
        )
    project = settings.home / "project"
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        _libraries_write_to(settings.home / "libraries")
        shutil.copytree(settings.root, project, ignore=_LEFT_OUT, dirs_exist_ok=True, copy_function=_copy)
        (project / "data").mkdir(exist_ok=True)
        ignored = settings.root / "data" / ".gitignore"
        if ignored.is_file():
            _copy(str(ignored), str(project / "data" / ".gitignore"))
        _writable(project)
    except OSError as refused:
        raise UsageError(
            f"{variable('home')}={settings.home} can't be written ({refused}): mount an emptyDir there"
        ) from refused
    return replace(settings, root=project)


def _libraries_write_to(folder: Path) -> None:
    """Matplotlib, DVC and MLflow keep caches at home, and a user without a name has `/` there, which is read-only."""
    folder.mkdir(parents=True, exist_ok=True)
    given = {"HOME": folder, "MPLCONFIGDIR": folder / "matplotlib", "XDG_CACHE_HOME": folder / "cache"}
    os.environ.update({name: str(path) for name, path in given.items()})
    # DVC asks for the user's name, which a number that some platform chose has not.
    os.environ.setdefault("LOGNAME", "headrace")


def _copy(source: str, target: str) -> str:
    """Content alone: an image's files may be read-only, and belong to somebody else."""
    return shutil.copyfile(source, target)


def _writable(folder: Path) -> None:
    """copytree gives folders the mode of their originals."""
    for path in (folder, *(one for one in folder.rglob("*") if one.is_dir())):
        path.chmod(0o700)
