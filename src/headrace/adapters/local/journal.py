"""The Journal port in a folder: one file a rollout, one line of JSON a look."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from headrace.documents import bind, plain
from headrace.domain.rollout import Look
from headrace.errors import DataError, Unavailable


class FolderJournal:
    """Looks in ``folder/<model>/<rollout>.jsonl``.

    Args:
        folder: made with the first look.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, model: str, rollout: str, look: Look) -> None:
        """Add a look, in one write: drivers that are at it together don't mix their lines.

        Raises:
            Unavailable: there is no room, or no right to write.
        """
        path = self._path(model, rollout)
        line = json.dumps(plain(look)).encode() + b"\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a+b", buffering=0) as file:
                # What a full disk has cut off must not take the next look with it.
                data = line if _ends_with_a_line(file.fileno()) else b"\n" + line
                whole = file.write(data) == len(data)
        except OSError as failed:
            raise Unavailable(f"{path} can't be written: {failed.strerror}; is there room, and may you write?") from (
                failed
            )
        if not whole:
            raise Unavailable(f"{path} can't be written whole: is there room?")

    def looks(self, model: str, rollout: str) -> Sequence[Look]:
        """See the port. A line that is cut off, as a full disk leaves it, is left out.

        Raises:
            DataError: a line is whole and no look: another Headrace wrote it.
        """
        path = self._path(model, rollout)
        if not path.exists():
            return []
        return [bind(Look, one, str(path), DataError) for one in _whole(path.read_bytes().split(b"\n"))]

    def _path(self, model: str, rollout: str) -> Path:
        return self._folder / model / f"{rollout}.jsonl"


def _ends_with_a_line(file: int) -> bool:
    size = os.fstat(file).st_size
    return size == 0 or os.pread(file, 1, size - 1) == b"\n"


def _whole(lines: Sequence[bytes]) -> Iterator[Any]:
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue
