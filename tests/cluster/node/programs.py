"""Running other people's programs to their end."""

import subprocess

from tests.cluster.node.place import NodeError


def run(*command: object) -> str:
    """Its output.

    Raises:
        NodeError: it failed; what it said about that is in the message.
    """
    done = attempt(*command)
    if done.returncode:
        words = " ".join(map(str, command))
        raise NodeError(f"{words} failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
    return done.stdout


def attempt(*command: object) -> subprocess.CompletedProcess[str]:
    """Its output, complaints and exit code."""
    return subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True)
