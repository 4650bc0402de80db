"""Programs, and the supervisord configuration that declares them.

A program is one file. Its first line is a comment with the whole definition as JSON: what `tether.py` executes, so
that no quote, percent sign or letter of a value meets supervisord's own quoting and expansion.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.adapters.local import tether
from headrace.documents import bind, plain
from headrace.domain.lineage import digest
from headrace.errors import DataError, Unavailable, UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_SUPERVISORD = """\
[supervisord]
logfile=../logs/supervisord.log
logfile_maxbytes=5MB
logfile_backups=2
pidfile=supervisord.pid
childlogdir=.
nocleanup=true
umask=077
minfds=256
minprocs=1

[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[include]
files=conf.d/*.conf
"""

# supervisord compares sections to find what changed; `SUPERVISOR_DEFINITION` lets it see changes in the first line.
_PROGRAM = """\
{prefix}{definition}
[program:{name}]
command={python} -I -S {tether} conf.d/{name}.conf
environment=SUPERVISOR_DEFINITION="{digest}"
autostart=true
autorestart={autorestart}
startsecs={settle_s}
startretries=20
stopsignal=TERM
stopwaitsecs={stop_wait_s}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile=../logs/{name}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""


@dataclass(frozen=True)
class Program:
    """A process to keep alive.

    Attributes:
        command: the executable and its arguments.
        environment: besides the few variables that every program gets: PATH, HOME, LANG, TMPDIR, TZ=UTC, certificates.
        stop_wait_s: from SIGTERM to SIGKILL.
        settle_s: a process that ends sooner counts as failed to start, and is started again after a growing pause.
        autorestart: whether to start it again when it ends.
    """

    name: str
    command: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_wait_s: int = 20
    settle_s: int = 3
    autorestart: bool = True

    def __post_init__(self) -> None:
        checked(self.name)


def checked(name: str) -> str:
    """The name, if a program can have it.

    Raises:
        UsageError: it can't.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't name a program: letters, digits, dots and hyphens can")
    return name


def render_supervisord(socket: str) -> str:
    """supervisord's own configuration; all but the socket is relative to its folder."""
    return _SUPERVISORD.format(socket=socket.replace("%", "%%"))


def render(program: Program) -> str:
    """The file that declares a program."""
    definition = plain(program)
    return _PROGRAM.format(
        prefix=tether.PREFIX,
        definition=json.dumps(definition, sort_keys=True),
        digest=digest(definition),
        name=program.name,
        python=_quoted(sys.executable),
        tether=_quoted(tether.__file__),
        autorestart="true" if program.autorestart else "false",
        settle_s=program.settle_s,
        stop_wait_s=program.stop_wait_s,
    )


def _quoted(path: str) -> str:
    """A path for supervisord: it expands percent signs first and splits like a shell then."""
    return '"' + re.sub(r'(["\\])', r"\\\1", path).replace("%", "%%") + '"'


def read(path: Path) -> Program:
    """The program that a file declares.

    Raises:
        DataError: it is not a file that `render` made.
    """
    try:
        first = path.read_text(encoding="ascii").split("\n", 1)[0]
        return bind(Program, json.loads(first.removeprefix(tether.PREFIX)), str(path), DataError)
    except (OSError, ValueError) as broken:
        raise DataError(f"{path} does not declare a program: {broken}; remove it and run `headrace up`") from broken


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, all of it or nothing.

    Raises:
        Unavailable: there is no room, or no right to write.
    """
    half = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError as failed:
        raise Unavailable(f"{path} can't be written: {failed.strerror}; is there room, and may you write?") from failed
