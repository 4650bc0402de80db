"""Processes on this machine, with a real supervisord: what is declared runs, and nothing of it is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from headrace.adapters.local import control, leftovers, ports
from headrace.adapters.local.processes import Processes, ProcessState
from headrace.adapters.local.programs import Program
from headrace.errors import Conflict, Unavailable, UsageError
from headrace.settings import HOST, Settings
from tests.conftest import free_ports
from tests.contract.conftest import ROOT, eventually

ODD = {
    "PLAIN": "value",
    "QUOTES": 'it\'s "quoted" \\ and `so on`',
    "PERCENT": "100 % of %(here)s and %(ENV_HOME)s %%",
    "COMMAS": "a,b=c, d ; comment # another",
    "LINES": "one\ntwo\r\n\tthree",
    "LETTERS": "Zürich 東京 🌊",
    "EMPTY": "",
}


@pytest.fixture
def sleeper(tmp_path: Path) -> Callable[..., Program]:
    def make(name: str = "sleeper", seconds: int = 600, **changes: object) -> Program:
        return Program(name, ("sleep", str(seconds)), cwd=tmp_path, **changes)  # type: ignore[arg-type]

    return make


def state(processes: Processes, name: str = "sleeper") -> ProcessState:
    return next(state for state in processes.states() if state.name == name)


def daemon(processes: Processes) -> psutil.Process:
    (found,) = leftovers.daemons(os.path.realpath(processes.home))
    return found


def all_of(processes: Processes) -> list[psutil.Process]:
    return leftovers.tethered(os.path.realpath(processes.home))


Make = Callable[..., Program]


def test_declared_program_runs_and_a_second_declaration_is_nothing(processes: Processes, sleeper: Make) -> None:
    assert processes.declare(sleeper()) is True
    first = state(processes)
    assert first.state in ("starting", "running")
    eventually(lambda: psutil.Process(first.pid).cmdline() == ["sleep", "600"])
    assert processes.declare(sleeper()) is False
    assert state(processes).pid == first.pid


def test_new_definition_restarts_only_its_program(processes: Processes, sleeper: Make) -> None:
    processes.declare(sleeper())
    processes.declare(sleeper("other"))
    before, other = state(processes), state(processes, "other")
    assert processes.declare(sleeper(environment={"A": "1"})) is True
    assert state(processes).pid != before.pid
    assert not psutil.pid_exists(before.pid or 0)
    assert state(processes, "other").pid == other.pid


def test_removed_program_is_gone_and_removal_is_idempotent(processes: Processes, sleeper: Make) -> None:
    processes.remove("sleeper")
    processes.declare(sleeper())
    pid = state(processes).pid
    processes.remove("sleeper")
    processes.remove("sleeper")
    assert processes.states() == ()
    assert not psutil.pid_exists(pid or 0)


def test_program_that_ignores_sigterm_is_killed_with_its_children(processes: Processes, tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & sleep 600"
    processes.declare(Program("stubborn", ("sh", "-c", script), cwd=tmp_path, stop_wait_s=1))
    eventually(lambda: len(all_of(processes)) == 4)
    processes.remove("stubborn")
    assert [process.pid for process in all_of(processes)] == [daemon(processes).pid]


def test_killed_program_is_started_again(processes: Processes, sleeper: Make) -> None:
    processes.declare(sleeper(settle_s=0))
    first = state(processes)
    psutil.Process(first.pid).kill()
    eventually(lambda: state(processes).pid not in (None, first.pid))


def test_program_that_fails_says_why(processes: Processes, tmp_path: Path) -> None:
    processes.declare(Program("broken", ("sh", "-c", "echo no model here >&2; exit 3"), cwd=tmp_path))
    eventually(lambda: state(processes, "broken").state == "backoff")
    assert "no model here" in state(processes, "broken").why


def test_program_that_is_not_there_says_so(processes: Processes, tmp_path: Path) -> None:
    processes.declare(Program("absent", ("no-such-command",), cwd=tmp_path))
    eventually(lambda: "absent can't be started" in state(processes, "absent").why)


def test_restart_gives_a_new_process(processes: Processes, sleeper: Make) -> None:
    processes.declare(sleeper())
    first = state(processes)
    processes.restart("sleeper")
    assert state(processes).pid not in (None, first.pid)
    with pytest.raises(UsageError, match="'nobody' is not declared"):
        processes.restart("nobody")


def test_environment_is_what_was_given_and_little_else(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "of the caller")
    code = "import json, os; open('seen.json', 'w').write(json.dumps(dict(os.environ)))"
    folder = tmp_path / "with space, 'quote' 50% ü"
    folder.mkdir()
    processes.declare(Program("env", (sys.executable, "-c", code), cwd=folder, environment=ODD, autorestart=False))
    eventually(lambda: (folder / "seen.json").exists() and (folder / "seen.json").read_text())
    seen = json.loads((folder / "seen.json").read_text())
    assert {name: seen.get(name) for name in ODD} == ODD
    assert seen["TZ"] == "UTC"
    expected = {*ODD, "PATH", "HOME", "TZ", "TETHERED_TO", "TETHERED_AS"}
    allowed = {"LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
    assert expected <= set(seen) <= expected | allowed | {"CURL_CA_BUNDLE"}


@pytest.mark.parametrize("name", ["with space", "50% of 'ü' \"x\" %(here)s", "deep/" * 40])
def test_odd_homes_work(tmp_path: Path, sleeper: Make, name: str) -> None:
    processes = Processes(tmp_path / name)
    try:
        processes.declare(sleeper())
        assert state(processes).pid is not None
    finally:
        processes.stop_all()
    assert all_of(processes) == []


def test_only_the_owner_reads_what_is_declared(processes: Processes, sleeper: Make) -> None:
    processes.declare(sleeper(environment={"TOKEN": "secret"}))
    folder = processes.home / "supervisor"
    assert folder.stat().st_mode & 0o077 == 0
    for path in (*folder.rglob("*.conf"), processes.log("sleeper")):
        assert path.stat().st_mode & 0o077 == 0


def test_stop_all_ends_everything_and_a_second_one_does_nothing(processes: Processes, sleeper: Make) -> None:
    processes.stop_all()
    processes.declare(sleeper())
    processes.stop_all()
    processes.stop_all()
    assert all_of(processes) == []
    assert state(processes) == ProcessState("sleeper", "stopped", why="supervisord does not run")


def test_start_brings_back_what_was_declared(processes: Processes, sleeper: Make) -> None:
    processes.declare(sleeper())
    processes.stop_all()
    processes.start_daemon()
    processes.start_daemon()
    assert state(processes).state in ("starting", "running")


def test_killed_daemon_leaves_no_orphan_and_start_heals(processes: Processes, sleeper: Make) -> None:
    processes.declare(sleeper())
    first = state(processes)
    daemon(processes).kill()
    if sys.platform == "linux":
        eventually(lambda: not all_of(processes))
    assert state(processes).state == "stopped"
    processes.start_daemon()
    assert state(processes).pid not in (None, first.pid)


def test_orphan_that_will_not_go_is_ended_by_the_next_start(processes: Processes, tmp_path: Path) -> None:
    script = "trap '' TERM; touch deaf; while :; do sleep 1; done"
    processes.declare(Program("stubborn", ("sh", "-c", script), cwd=tmp_path, stop_wait_s=1))
    eventually((tmp_path / "deaf").exists)
    orphan = state(processes, "stubborn").pid
    daemon(processes).kill()
    eventually(lambda: state(processes, "stubborn").state == "stopped")
    assert psutil.pid_exists(orphan or 0)
    processes.start_daemon()
    assert orphan not in {process.pid for process in all_of(processes)}


def test_frozen_daemon_is_ended_by_stop_all(processes: Processes, sleeper: Make) -> None:
    processes.declare(sleeper())
    daemon(processes).send_signal(signal.SIGSTOP)
    processes.stop_all()
    assert all_of(processes) == []


def test_stale_socket_and_pid_of_a_stranger_do_no_harm(processes: Processes, sleeper: Make) -> None:
    folder = processes.home / "supervisor"
    folder.mkdir(parents=True)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (folder / "supervisord.pid").write_text(f"{stranger.pid}\n")
        with control.short(folder / "supervisor.sock") as address, socket.socket(socket.AF_UNIX) as stale:
            stale.bind(address)
        processes.stop_all()
        processes.declare(sleeper())
        assert state(processes).pid is not None
        processes.stop_all()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_daemon_outlives_its_killed_starter(processes: Processes, settings: Settings) -> None:
    code = (
        "import sys, time; from pathlib import Path; from headrace.adapters.local.processes import Processes;"
        "from headrace.adapters.local.programs import Program;"
        "Processes(Path(sys.argv[1])).declare(Program('sleeper', ('sleep', '600'), cwd=Path('/')));"
        "print('up', flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(settings.home)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert starter.stdout is not None
    with starter.stdout:
        assert starter.stdout.readline() == b"up\n"
        os.killpg(starter.pid, signal.SIGKILL)
        starter.wait()
        # Nobody else holds the pipe: it ends with the starter.
        assert starter.stdout.read() == b""
    assert state(processes).state in ("starting", "running")
    assert os.getsid(daemon(processes).pid) == daemon(processes).pid
    processes.stop_all()
    assert all_of(processes) == []


def test_home_that_cannot_be_written_is_unavailable(tmp_path: Path, sleeper: Make) -> None:
    (tmp_path / "file").write_text("")
    processes = Processes(tmp_path / "file" / "home")
    with pytest.raises(Unavailable, match="can't be made"):
        processes.declare(sleeper())
    processes.stop_all()


def test_port_that_is_taken_names_its_holder_and_the_way_out() -> None:
    (port,) = free_ports(1)
    assert ports.holder(port) is None
    ports.require_free(port, "HEADRACE_HTTP_PORT")
    with socket.create_server((HOST, port)):
        assert ports.holder(port) == ports.Listener(port, os.getpid(), psutil.Process().name())
        with pytest.raises(Conflict, match=rf"port {port} is taken by .*{os.getpid()}.*HEADRACE_HTTP_PORT=\d+ or stop"):
            ports.require_free(port, "HEADRACE_HTTP_PORT")
        assert ports.next_free(port, {port + 1}) > port + 1


def test_listener_on_all_addresses_takes_the_port_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        port = everywhere.getsockname()[1]
        assert ports.holder(port) == ports.Listener(port, os.getpid(), psutil.Process().name())
