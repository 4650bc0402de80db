"""What has to be built before anything can be measured: peers' environments, and two C programs."""

import shutil
import subprocess
import sys
from pathlib import Path

from headrace.errors import Unavailable

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BENCH = ROOT / ".bench"
PEERS = HERE / "peers"
_UV = Path(sys.executable).with_name("uv")


def python_of(peer: str | None) -> Path:
    """The interpreter of a peer's environment, made on demand; without a peer the benchmark's own.

    Raises:
        Unavailable: the environment can't be made.
    """
    if peer is None:
        return Path(sys.executable)
    lock, home = PEERS / f"{peer}.lock", BENCH / peer
    python, built = home / "bin/python", home / "built"
    if built.exists() and built.read_text() == lock.read_text():
        return python
    print(f"making the environment of {peer}", file=sys.stderr)
    shutil.rmtree(home, ignore_errors=True)
    _run([str(_UV), "venv", "--quiet", "--python", sys.executable, str(home)])
    _run([str(_UV), "pip", "sync", "--quiet", "--compile-bytecode", "--python", str(python), str(lock)])
    built.write_text(lock.read_text())
    return python


def _run(command: list[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        raise Unavailable(f"{Path(command[0]).name} {command[1]} failed: {' | '.join(lines[-5:])[-600:]}")


def compiled(name: str) -> Path:
    """The program of a C file beside this one, compiled when the file is newer.

    Raises:
        Unavailable: there is no C compiler, or it refuses the file.
    """
    source, program = HERE / f"{name}.c", BENCH / "bin" / name
    changed = max(path.stat().st_mtime for path in (source, *HERE.glob("*.h")))
    if program.exists() and program.stat().st_mtime > changed:
        return program
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Unavailable("the load generator is a C program and there is no gcc: on Debian and Ubuntu apt install gcc")
    program.parent.mkdir(parents=True, exist_ok=True)
    _run([compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)])
    return program


def versions(peer: str) -> dict[str, str]:
    """Package to version, as a peer's lock has them."""
    pairs = (line.split("==") for line in (PEERS / f"{peer}.lock").read_text().splitlines() if "==" in line)
    return {name.strip(): version.split()[0] for name, version in pairs}
