"""Becomes Traefik once its files are those that the Router wrote: a script, run as ``traefik_start.py COMMAND...``.

Traefik takes over all files or none. While it runs, a broken file costs nothing, because it keeps what it had. One that
has just started has nothing to keep: a slip of the hand in one model's file would then put all models out of service.

It is run in the folder of Traefik's configuration. Imports are few on purpose: while it runs, no request is answered.
"""

import fcntl
import json
import os
import sys

PREFIX = "# headrace: "
DYNAMIC, WRITTEN = "dynamic", "written"
_NOT_STARTED = 127


def main(command: list[str]) -> None:
    """Put the files right, and become the program."""
    put_back(".")
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as failed:
        sys.stderr.write(f"{command[0]} can't be started: {failed}\n")
        sys.exit(_NOT_STARTED)


def put_back(folder: str) -> None:
    """Replace files that aren't what the Router wrote last; whatever goes wrong is said, and stops nothing.

    A file that is gone stays gone: that is how a route is taken away. A newer one stays too: a Headrace that kept no
    copies wrote it.
    """
    written = os.path.join(folder, WRITTEN)  # noqa: PTH118
    for name in sorted(os.listdir(written)) if os.path.isdir(written) else ():  # noqa: PTH112, PTH208
        if name.endswith(".yml"):
            try:
                _put_back(folder, name)
            except OSError as failed:
                sys.stderr.write(f"{name} can't be put right: {failed}\n")


def _put_back(folder: str, name: str) -> None:
    path = f"{folder}/{DYNAMIC}/{name}"
    with open(f"{folder}/{name.removesuffix('.yml')}.lock", "a+") as lock:  # noqa: PTH123
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A write is under way, and waits for us: its file is a good one.
            return
        try:
            found = _read(path)
        except FileNotFoundError:
            return
        good = _read(f"{folder}/{WRITTEN}/{name}")
        if found == good or _generation(found) > _generation(good):
            return
        half = f"{folder}/{DYNAMIC}/.{name}.start"
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(good)
        os.replace(half, path)  # noqa: PTH105
        sys.stderr.write(f"{name} was changed by hand: put back as generation {_generation(good)} was written\n")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def _generation(content: bytes) -> int:
    """Of the record in the first line; 0 when there is none."""
    first = content.split(b"\n", 1)[0]
    try:
        return int(json.loads(first.removeprefix(PREFIX.encode()))["generation"])
    except (ValueError, KeyError, TypeError):
        return 0


if __name__ == "__main__":
    main(sys.argv[1:])
