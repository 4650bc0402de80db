"""Data under version control, on DVC: run in processes of its own, because it changes global state where it runs."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from headrace.adapters.local.locks import held
from headrace.documents import read_json, write_json
from headrace.domain.lineage import digest
from headrace.errors import Conflict, DataError, HeadraceError, Unavailable, UsageError
from headrace.settings import Settings, variable

LOCK_TIMEOUT_S = 600
OVERRIDE = "override"
_BUSY = ("is busy, it is being blocked by", "Unable to acquire lock")
_FULL = ("No space left on device", "Disk quota exceeded")
_CHATTER = ("Having any troubles?", "If there are no processes with such PIDs")
_SHOWN_LINES = 8


class DvcStore:
    """The DataStore port."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.root
        self._home = settings.home / "dvc"
        self._remote = settings.data_remote

    def bring(self, stage: str) -> Mapping[str, str]:
        """See the port. What is new is also pushed to the remote, so that a version's data can be had again.

        Raises:
            DataError: a stage failed; the message has its last lines.
            Conflict: another process is at the data.
            Unavailable: the disk is full, or the remote does not answer.
            UsageError: the remote that is set needs a package that is not installed.
        """
        if self._remote.startswith("s3://") and find_spec("dvc_s3") is None:
            raise UsageError(
                f"{variable('data_remote')}={self._remote} needs the package dvc-s3: "
                "install headrace with its extra `s3`, or leave the variable empty"
            )
        with held(self._home / "lock", LOCK_TIMEOUT_S):
            self._allow_no_git()
            self._choose_remote()
            self._dvc(DataError, f"{stage} failed", "repro", stage)
            outputs = _outputs(self._root / stage)
            self._push(stage, outputs)
        return outputs

    def _allow_no_git(self) -> None:
        """Let DVC work in a project that came as an archive, or in an image."""
        in_git = any((folder / ".git").exists() for folder in (self._root, *self._root.parents))
        if not in_git and "no_scm = true" not in self._config("config.local"):
            self._dvc(HeadraceError, "DVC can't do without git here", "config", "--local", "core.no_scm", "true")

    def _push(self, stage: str, outputs: Mapping[str, str]) -> None:
        """Push unless these outputs were pushed to this remote before."""
        record = self._home / "pushed.json"
        pushed = read_json(dict[str, str], record) if record.is_file() else {}
        now = digest([outputs, self._remote, self._config("config")])
        if pushed.get(stage) == now or not (self._remote or self._has_remote("config")):
            return
        self._dvc(Unavailable, f"{stage} is made, but could not be pushed to the remote", "push", stage)
        write_json(record, {**pushed, stage: now})

    def _choose_remote(self) -> None:
        """Make .dvc/config.local say what the setting says; its other lines stay as they are."""
        # A folder is stored relative to .dvc, so it is set anew each time; that does no harm.
        if self._remote and f"url = {self._remote}" not in self._config("config.local").splitlines():
            what = f"{variable('data_remote')}={self._remote} is no remote"
            self._dvc(UsageError, what, "remote", "add", "--local", "--force", "--default", OVERRIDE, self._remote)
        elif not self._remote and self._has_remote("config.local", OVERRIDE):
            self._dvc(HeadraceError, "the remote can't be reset", "remote", "remove", "--local", OVERRIDE)

    def _has_remote(self, file: str, name: str = "") -> bool:
        return f'remote "{name}' in self._config(file)

    def _config(self, file: str) -> str:
        path = self._root / ".dvc" / file
        # DVC indents the lines of a section.
        return "\n".join(line.strip() for line in path.read_text().splitlines()) if path.is_file() else ""

    def _dvc(self, error: type[HeadraceError], what: str, *arguments: str) -> None:
        """Run DVC; raises `error` unless its words say that another process or the disk is the reason."""
        ran = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self._root,
            env=_environment(self._home),
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode == 0:
            return
        said = [line for line in ran.stderr.splitlines() if line.strip() and not line.startswith(_CHATTER)]
        message = "\n".join([f"{what}:", *said[-_SHOWN_LINES:]])
        if any(words in ran.stderr for words in _BUSY):
            raise Conflict(f"{message}\nWait for that process, or end it")
        if any(words in ran.stderr for words in _FULL):
            raise Unavailable(f"{message}\nMake room, and run the same command again")
        raise error(message)


def _environment(home: Path) -> dict[str, str]:
    """This process's environment, in which `python` of a stage is this interpreter's."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(home / "site")}


def _outputs(stages: Path) -> dict[str, str]:
    """Output path, relative to the project, to hash, as the lock beside a dvc.yaml records it."""
    import yaml

    lock = stages.with_suffix(".lock")
    if not lock.is_file():
        raise DataError(f"{lock} is not there: {stages.name} has no stage with outputs")
    recorded = yaml.safe_load(lock.read_text()).get("stages", {})
    return {out["path"]: out["md5"] for stage in recorded.values() for out in stage.get("outs", ())}
