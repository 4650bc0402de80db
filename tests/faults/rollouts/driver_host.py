"""Runs the deploy step for every version that it reads, each in a process forked off, which it kills in time.

Forked, since to import all that a driver needs takes longer than a rollout.
"""

import os
import signal
import sys
import time
from pathlib import Path

from headrace import settings as environment
from headrace.bootstrap import platform
from headrace.documents import read_json
from headrace.domain.rollout_policy import RolloutPolicy
from headrace.steps.deploy import roll_out
from headrace.steps.watching import Clock


def main() -> None:
    """Read ``model version seconds``, and say how the driver ended: its exit code, or the signal's number below 0."""
    import mlflow.onnx  # noqa: F401

    policy = read_json(RolloutPolicy, Path(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        model, version, life_s = line.split()
        process = os.fork()
        if process == 0:
            _drive(model, int(version), policy)
        print(_ended(process, float(life_s)), flush=True)


def _drive(model: str, version: int, policy: RolloutPolicy) -> None:
    code = 1
    try:
        ports = platform(environment.read())
        roll_out(ports, ports.registry.version(model, version), policy, Clock())
        code = 0
    finally:
        os._exit(code)


def _ended(process: int, life_s: float) -> int:
    deadline = time.monotonic() + life_s
    while time.monotonic() < deadline:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    main()
