"""Starts the supervisord of a home."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from headrace.adapters.local import control, programs
from headrace.errors import Unavailable, UsageError

_INHERITED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
_START_S = 20.0


def launch(home: Path, address: Path, marks: Mapping[str, str]) -> None:
    """Start a supervisord that has a session of its own and outlives the caller; it listens when this returns.

    Args:
        home: it works in ``home/supervisor``.
        address: its socket, in that folder.
        marks: variables that it and all of its programs get, besides the few that are inherited.

    Raises:
        Unavailable: it does not start.
        UsageError: it can't work in a home of such a name.
    """
    _prepare(home)
    with control.short(address) as socket:
        programs.write_private(address.parent / "supervisord.conf", programs.render_supervisord(socket))
        try:
            # It daemonizes itself: the call returns when it has left, or could not.
            started = subprocess.run(
                [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", "supervisord.conf"],
                cwd=address.parent,
                env={**_inherited(), **marks},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_START_S,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as slow:
            raise Unavailable(f"supervisord does not start within {_START_S:g} s") from slow
    if started.returncode != 0:
        last = (started.stderr or started.stdout).strip().splitlines()[-3:]
        raise Unavailable(f"supervisord does not start: {' / '.join(last)}")


def _prepare(home: Path) -> None:
    if set("*?[") & set(str(home.absolute())):
        raise UsageError(f"supervisord can't work in {home}: choose a HEADRACE_HOME without any of * ? [")
    try:
        for folder in (home / "supervisor" / "conf.d", home / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        (home / "supervisor").chmod(0o700)
    except OSError as failed:
        raise Unavailable(f"{home} can't be written: {failed.strerror}; is it yours, is there room?") from failed


def _inherited() -> dict[str, str]:
    return {"TZ": "UTC"} | {name: os.environ[name] for name in _INHERITED if name in os.environ}
