"""Helm, the program, for one namespace."""

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from headrace.adapters.cluster.kubernetes_api import CORE, Kubernetes, Object
from headrace.errors import Conflict, Unavailable, UsageError

_TIMEOUT_S = 60
# A release that says for longer that somebody is at it was left behind: an install takes a second.
_ABANDONED_S = 30.0
_PENDING = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")


class Helm:
    """Args:
    kubernetes: where Helm keeps its records, as Secrets.
    namespace: of the releases.
    chart: the folder of the chart.
    """

    def __init__(self, kubernetes: Kubernetes, namespace: str, chart: Path) -> None:
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._chart = chart

    def install(self, release: str, values: Mapping[str, Any]) -> None:
        """Have a release with these values. Idempotent; what somebody began and left is finished.

        Raises:
            UsageError: the chart refuses the values, the cluster is too old, or has no right for it.
            Conflict: somebody else is at it.
            Unavailable: the cluster does not answer.
        """
        self._take_over(release)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(dict(values), file)
            file.flush()
            arguments = ("upgrade", release, str(self._chart), "--install", "--history-max=2", f"--values={file.name}")
            self._run(release, *arguments)

    def uninstall(self, release: str) -> None:
        """Remove a release and all its objects. Idempotent."""
        self._run(release, "uninstall", release, "--ignore-not-found", "--cascade=foreground", "--wait=false")

    def _take_over(self, release: str) -> None:
        """Helm lets nobody near a release that says that somebody is at it, and one that was killed never unsays it."""
        records = self._kubernetes.list(CORE, self._namespace, "secrets", {"owner": "helm", "name": release})
        for record in records:
            if record["metadata"]["labels"].get("status") not in _PENDING:
                continue
            age_s = time.time() - _changed_at(record)
            if age_s < _ABANDONED_S:
                raise Conflict(f"{release} is being installed by somebody else since {age_s:.0f} s; try again later")
            self._kubernetes.delete(CORE, self._namespace, "secrets", record["metadata"]["name"])

    def _run(self, release: str, *arguments: str) -> None:
        command = ("helm", *arguments, f"--namespace={self._namespace}")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except FileNotFoundError as missing:
            raise UsageError("there is no `helm` on the PATH: install Helm 3.18 or newer, or 4") from missing
        except subprocess.TimeoutExpired as late:
            raise Unavailable(f"helm {arguments[0]} {release} takes more than {_TIMEOUT_S} s; try again") from late
        if done.returncode != 0:
            raise _told(release, done.stderr)


def _changed_at(record: Object) -> float:
    """Helm writes it into a label; the Secret's own time where it does not. Seconds since 1970."""
    from datetime import datetime

    labels = record["metadata"]["labels"]
    if str(labels.get("modifiedAt", "")).isdecimal():
        return float(labels["modifiedAt"])
    return datetime.fromisoformat(record["metadata"]["creationTimestamp"]).timestamp()


def _told(release: str, stderr: str) -> Exception:
    lines: Sequence[str] = [line.strip() for line in stderr.splitlines() if line.strip()]
    words = " / ".join(line.removeprefix("Error: ") for line in lines if not line.startswith(("level=", "WARNING")))
    said = f"Helm can't deploy {release}: {words[-900:] or 'it says nothing'}"
    if "another operation" in words:
        return Conflict(f"{said}; somebody else is at it, try again later")
    if "already exists" in words and "name that is still in use" not in words:
        return Conflict(f"{said}; somebody else was faster, or made it by other means: look at it, try again")
    unreachable = ("connection refused", "Kubernetes cluster unreachable", "i/o timeout", "TLS handshake", "EOF")
    return Unavailable(said) if any(one in words for one in unreachable) else UsageError(said)
