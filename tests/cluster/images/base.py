"""The files of the base image: Debian 12 with its Python, by debootstrap, made once."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.node.locks import exclusive
from tests.cluster.node.place import CACHE, NodeError
from tests.cluster.node.requirements import require_packages

SUITE = "bookworm"
_PACKAGES = "ca-certificates,python3,python3-venv"
_NOT_NEEDED = (
    "dev/*",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/*",
    "var/log/*",
)
_FOLDER = CACHE / "images/base-1"
# Empty files, to mount this machine's own settings over while something is installed.
SOURCES, SETTINGS = "etc/apt/sources.list", "etc/apt/apt.conf"


def archive() -> Path:
    """The root file system.

    Raises:
        NodeError: it can't be made; debootstrap's last words are in the message.
    """
    made = _FOLDER / "base.tar"
    with exclusive("image-base"):
        if not made.exists():
            started = time.monotonic()
            print("making the base image from Debian packages", file=sys.stderr, flush=True)
            _make(made)
            print(f"the base image took {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return made


def sources() -> Path:
    """The sources.list of the mirror that the base came from."""
    archive()
    return _FOLDER / "sources.list"


def _make(made: Path) -> None:
    require_packages("debootstrap")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_FOLDER, prefix=".making-") as scratch:
        root = Path(scratch) / "root"
        _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", SUITE, str(root), *_mirror())
        (_FOLDER / "sources.list").write_text((root / SOURCES).read_text())
        for name in (SOURCES, SETTINGS):
            (root / name).write_text("")
        for name in ("etc/hostname", "etc/resolv.conf", "etc/machine-id"):
            (root / name).unlink(missing_ok=True)
        leave_out = [f"--exclude=./{name}" for name in (*_NOT_NEEDED, "var/lib/apt/lists/*")]
        part = Path(scratch) / "base.tar"
        _run("tar", "--sort=name", "--numeric-owner", "--directory", str(root), *leave_out, "-cf", str(part), ".")
        part.rename(made)


def _mirror() -> list[str]:
    """This machine's own, if it has this Debian; else debootstrap knows one."""
    try:
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Identifier: Packages"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    except FileNotFoundError:
        return []
    return [line.split()[0] for line in listed.splitlines() if line.split()[1:] == [SUITE, "main"]][:1]


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise NodeError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout[-4000:]}")
