"""A disk of its own for a test, to be filled."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A file system in memory.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / "filling"

    def fill(self, leave: int = 0) -> None:
        """Take all room, down to the last byte of the last page but so many bytes."""
        with self._filling.open("ab", buffering=0) as file:
            for size in (1024 * 1024, 64 * 1024, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
            file.truncate(max(file.tell() - leave, 0))

    def make_room(self) -> None:
        """Give it all back."""
        self._filling.unlink()

    def read_only(self, is_so: bool) -> None:
        """Take no more writing, or take it again. Nobody may have a file open to write at that moment."""
        _run("mount", "-o", f"remount,{'ro' if is_so else 'rw'}", str(self.path))


@contextlib.contextmanager
def small_disk(path: Path, size: str = "4m") -> Iterator[SmallDisk]:
    """A disk that is gone afterwards; skips the test where nobody may mount one."""
    path.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={size}", "headrace-test", str(path))
    except (OSError, subprocess.CalledProcessError) as refused:
        pytest.skip(f"a small disk can't be mounted here, as user {os.getuid()}: {refused}")
    try:
        yield SmallDisk(path)
    finally:
        # Lazily: what is left over must not stay mounted because somebody still looks at it.
        _run("umount", "-l", str(path))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)
