"""kubectl, the program, for one cluster."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster.node import toolchain
from tests.cluster.node.place import Node


class KubectlError(AssertionError):
    """kubectl failed."""


class Kubectl:
    """Args:
    kubeconfig: an administrator's access; without one, KUBECONFIG's or else the test node's.
    """

    def __init__(self, kubeconfig: Path | None = None) -> None:
        named = os.environ.get("KUBECONFIG")
        self.kubeconfig = kubeconfig or Path(named or Node().kubeconfig)
        found = shutil.which("kubectl") if named else None
        self.command = (found or str(toolchain.tool("kubectl")), f"--kubeconfig={self.kubeconfig}")

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """What it printed. Raises KubectlError with what it complained of."""
        done = subprocess.run([*self.command, *arguments], check=False, capture_output=True, text=True, input=stdin)
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout
