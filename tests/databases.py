"""A real Redis and a real PostgreSQL on loopback, each in a process and a folder of its own."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from redis import Redis as Client
from redis.exceptions import RedisError

from tests.conftest import free_ports

_DEADLINE_S = 30
_NOBODY = 65534
_DEBIAN = "/usr/lib/postgresql/*/bin"


def program(name: str, package: str, folders: str = "") -> str:
    """The path of a program; without it the test is skipped, and in CI it fails."""
    found = shutil.which(name) or next((str(path) for path in sorted(Path("/").glob(f"{folders[1:]}/{name}"))), None)
    if found is None:
        why = f"{name} is not here: install Debian's package {package}"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    return found


@dataclass
class Redis:
    """A Redis that can be stopped, frozen, and started again, empty.

    Attributes:
        folder: where its log is.
        password: has characters that a URL must encode, and that Feast's connection string would take for its own.
    """

    folder: Path
    password: str = field(default_factory=lambda: f"{secrets.token_hex(8)},ä/@:=%")
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0) -> str:
        """For clients."""
        return f"redis://:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0) -> Any:
        """A client of the library's."""
        return Client.from_url(self.url(database))

    def start(self) -> None:
        """Start it and wait until it answers."""
        said = self.folder / "redis.log"
        config = [f"port {self.port}", "bind 127.0.0.1", f'requirepass "{self.password}"', 'save ""', "appendonly no"]
        with said.open("ab") as log:
            # Its configuration comes by a pipe, so that the password is in no list of processes.
            self.process = subprocess.Popen(
                [program("redis-server", "redis-server"), "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
            assert self.process.stdin is not None
            self.process.stdin.write("\n".join(config).encode())
            self.process.stdin.close()
        with self.client() as client:
            _until(client.ping, self.process, said)

    def stop(self) -> None:
        """Kill it, frozen or not; what it held is gone."""
        _end(self.process, signal.SIGKILL)
        self.process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections are taken, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            # The signal is on its way when this returns; that it has arrived shows in the state.
            while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                time.sleep(0.001)
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[Redis]:
    """A Redis that runs, and that is gone afterwards."""
    server = Redis(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database, of a server that is gone afterwards."""
    password = f"{secrets.token_hex(8)},ä/@:=%"
    (port,) = free_ports(1)
    # PostgreSQL refuses to run as root, and whom it runs as can't enter pytest's folders.
    with tempfile.TemporaryDirectory(prefix="headrace-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "password").write_text(password)
        if os.geteuid() == 0:
            for path in (folder, folder / "password"):
                os.chown(path, _NOBODY, _NOBODY)
        initdb = [program("initdb", "postgresql", _DEBIAN), "--pgdata", f"{folder}/data", "--username", "feast"]
        options = ["--auth", "scram-sha-256", "--pwfile", f"{folder}/password", "--encoding", "UTF8", "--no-sync"]
        made = subprocess.run(
            [*initdb, *options, "--locale", "C"], capture_output=True, text=True, check=False, **_as_nobody()
        )
        assert made.returncode == 0, made.stderr
        settings = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off"]
        command = [program("postgres", "postgresql", _DEBIAN), "-D", f"{folder}/data"]
        with (folder / "log").open("ab") as log:
            server = subprocess.Popen([*command, *_flags(settings)], stdout=log, stderr=log, cwd=folder, **_as_nobody())
        try:
            url = f"postgresql://feast:{quote(password, safe='')}@127.0.0.1:{port}/postgres"
            _until(lambda: psycopg.connect(url).close(), server, folder / "log")
            yield url
        finally:
            # It ends whoever is connected, and its own processes.
            _end(server, signal.SIGINT)


def _as_nobody() -> dict[str, Any]:
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _flags(settings: Sequence[str]) -> Iterator[str]:
    for setting in settings:
        yield from ("-c", setting)


def _until(answers: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            answers()
            return
        except (RedisError, psycopg.OperationalError) as refused:
            said = log.read_text(errors="replace")
            assert process.poll() is None, said
            if time.monotonic() >= deadline:
                raise AssertionError(said) from refused
            time.sleep(0.02)


def _end(process: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
    if process is not None:
        process.send_signal(how)
        process.wait(_DEADLINE_S)


def emptied(url: str) -> str:
    """The same database of PostgreSQL, with nothing in it."""
    with psycopg.connect(url) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url
