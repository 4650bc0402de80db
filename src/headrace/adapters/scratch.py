"""Folders for what is half done: nobody mistakes them for done, and those of killed processes go with the next one."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_for(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, whose parent is made if need be; it is gone afterwards, whatever happens.

    Its holder keeps it locked, so that those of processes that were killed can be told from those at work.
    """
    parent, prefix = target.parent, f".{target.name}-"
    parent.mkdir(parents=True, exist_ok=True)
    # The parent's lock is held for a moment: between making a folder and locking it nobody takes it for abandoned.
    with _locked(parent):
        _remove_abandoned(parent, prefix)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        held = os.open(folder, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def remove_abandoned(target: Path) -> None:
    """Remove what killed processes left of `scratch_for` it."""
    if target.parent.is_dir():
        with _locked(target.parent):
            _remove_abandoned(target.parent, f".{target.name}-")


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*"):
        try:
            with _locked(folder, fcntl.LOCK_NB):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # somebody is at work in it, or it has just gone


@contextmanager
def _locked(folder: Path, how: int = 0) -> Iterator[None]:
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(held)
