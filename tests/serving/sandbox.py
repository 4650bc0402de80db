"""A mount namespace in which nothing can be written but one folder, and in which a command is nobody's."""

import shlex
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PLACE = Path("/mnt")
# Where the folders of the test are within.
MODEL, LOG = PLACE / "model", PLACE / "log"
_NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"),
    *("--bounding-set=-all", "--inh-caps=-all"),
)


def sandbox(model: Path, log: Path) -> list[str]:
    """What runs a command as nobody, who may write to `log` alone, which is `LOG` there; `model` is `MODEL`.

    The mounts end with the command.
    """
    needed = [Path(sys.base_prefix), Path(sys.prefix), REPOSITORY]
    closed = {one for path in needed for one in [_closed(path)] if one is not None}
    kept = [path for path in needed if _closed(path) is not None]
    steps = [f"mount -t tmpfs -o mode=755 tmpfs {PLACE}", f"mkdir {MODEL} {LOG}"]
    steps += [f"mount --bind {_quoted(model)} {MODEL}", f"mount --bind {_quoted(log)} {LOG}"]
    # A home that only its owner may enter holds the interpreter, perhaps: it is opened, with nothing else in it.
    for number, path in enumerate(kept):
        steps += [f"mkdir {PLACE}/{number}", f"mount --rbind {_quoted(path)} {PLACE}/{number}"]
    steps += [f"mount -t tmpfs -o mode=755 tmpfs {_quoted(path)}" for path in sorted(closed)]
    for number, path in enumerate(kept):
        steps += [f"mkdir -p {_quoted(path)}", f"mount --rbind {PLACE}/{number} {_quoted(path)}"]
    script = "\n".join(
        [
            "set -e",
            *steps,
            # What the kernel itself shows, such as /proc, is not to be remounted everywhere, and is root's.
            f"while read -r _ target _; do [ $target = {LOG} ] || mount -o remount,bind,ro $target 2>&- || :; done"
            " < /proc/self/mounts",
            # Where the repository may have been covered, this directory is still the old one.
            f"cd {_quoted(REPOSITORY)}",
            'exec "$@"',
        ]
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *_NOBODY]


def why_not(model: Path, log: Path) -> str:
    """Why there can be no such namespace here; empty if there can."""
    try:
        command = [*sandbox(model, log), sys.executable, "-c", "import serving"]
        tried = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as missing:
        return f"there is no {missing.filename}"
    return tried.stderr.strip().rpartition("\n")[2] if tried.returncode else ""


def _closed(path: Path) -> Path | None:
    """The first folder above that others may not enter."""
    return next((one for one in reversed(path.parents) if not one.stat().st_mode & 0o001), None)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
