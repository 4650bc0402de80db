"""Starts one declared program so that it ends when supervisord does: a script, run as ``tether.py conf.d/<name>.conf``.

supervisord starts it in its own folder. It reads the program from the first line of the file, asks the kernel (Linux
only) for a SIGTERM when its parent dies, and becomes the program: no process stays behind. Imports are few on purpose:
every start of a program pays for them (pathlib would double the cost).
"""

import json
import os
import sys

PREFIX = "; headrace: "
_PR_SET_PDEATHSIG = 1
_SIGTERM = 15
_NOT_STARTED = 127


def main(path: str) -> None:
    """Become the program that the file declares."""
    with open(path, encoding="ascii") as file:  # noqa: PTH123
        program = json.loads(file.readline().removeprefix(PREFIX))
    _tie_to_parent()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
    environment.update(program["environment"], TETHERED_AS=program["name"])
    try:
        os.chdir(program["cwd"])
        os.execvpe(program["command"][0], program["command"], environment)  # noqa: S606
    except OSError as failed:
        sys.stderr.write(f"{program['name']} can't be started: {failed}\n")
        sys.exit(_NOT_STARTED)


def _tie_to_parent() -> None:
    if sys.platform != "linux":
        return
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGTERM, 0, 0, 0) != 0:
        sys.stderr.write(f"prctl: {os.strerror(ctypes.get_errno())}\n")
    # The parent may have died before the call, and then no signal would ever come.
    with open("supervisord.pid", encoding="ascii") as file:  # noqa: PTH123
        if file.read().strip() != str(os.getppid()):
            sys.exit(_NOT_STARTED)


if __name__ == "__main__":
    main(sys.argv[1])
