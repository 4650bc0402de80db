"""The service needs no user, no capability and no file system that it may write to, but for the log's folder."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.serving.load import metric, predict, until
from tests.serving.sandbox import LOG, MODEL, sandbox, why_not
from tests.serving.service_process import DEADLINE_S, Process

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a mount namespace and be nobody in it")
NOBODY = 65534
# Which folders can be written to: what the sandbox is for.
PROBE = """
import sys
for folder in sys.argv[1:]:
    try:
        open(folder + "/probe", "w").close()
    except OSError:
        continue
    print(folder)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    return folder


@pytest.fixture
def before(directories: dict[str, Path], log: Path) -> list[str]:
    """What runs a command in the sandbox."""
    model = directories["binary"]
    # pytest makes its folders for their owner alone; this one is nobody's secret.
    model.chmod(0o755)
    if reason := why_not(model, log):
        pytest.skip(f"no mount namespace here: {reason}")
    return sandbox(model, log)


@pytest.fixture
def start(before: list[str]) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*options: str) -> Process:
        started.append(Process(MODEL, *options, before=before))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.wait()
        one.close()


def test_only_the_log_can_be_written_in_the_sandbox(before: list[str]) -> None:
    """Else the tests below would show nothing."""
    folders = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/", str(MODEL), str(Path.cwd()), str(LOG)]  # noqa: S108
    done = subprocess.run(
        [*before, sys.executable, "-c", PROBE, *folders], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    assert done.stdout.split() == [str(LOG)]


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])
def test_nobody_on_a_read_only_file_system_answers_logs_and_ends(
    start: Callable[..., Process],
    log: Path,
    make_rows: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    # Where several workers count together.
    monkeypatch.setenv("TMPDIR", str(LOG))
    service = start("--prediction-log", str(LOG), "--drain-s", "0", *options).until_listening()
    everyone = [one := psutil.Process(service.process.pid), *one.children(recursive=True)]
    for process in everyone:
        assert set(process.uids()) == {NOBODY}
        assert capabilities(process.pid) == {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0}
    for _ in range(5):
        assert predict(service, make_rows(3)).status == 200
    until(lambda: metric(service, "headrace_rows_total") == 15, "counting")
    assert service.stop() == 0
    assert [event for event in service.events if event["level"] in ("warning", "error", "critical")] == []
    assert rows_in(log) == 15
    assert sorted(path.name for path in log.iterdir()) == ["predictions", "spool"]


def test_one_process_without_a_log_writes_nowhere(
    start: Callable[..., Process],
    log: Path,
    make_rows: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one folder that can be written to is not named to it."""
    monkeypatch.delenv("TMPDIR", raising=False)
    service = start("--drain-s", "0").until_listening()
    assert predict(service, make_rows(3)).status == 200
    assert service.stop() == 0
    assert [event for event in service.events if event["level"] in ("warning", "error", "critical")] == []
    assert list(log.iterdir()) == []


def test_several_workers_say_that_they_need_a_temporary_folder(
    start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    service = start("--workers", "2")
    assert service.wait() == 2
    assert [event["event"] for event in service.events] == [
        "headrace: several workers count in a temporary folder, and none can be written to: "
        "set TMPDIR to one, or use --workers 1"
    ]


def capabilities(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: int(value, 16) for name, _, value in (line.partition(":\t") for line in lines) if name[:3] == "Cap"}


def rows_in(log: Path) -> int:
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in log.glob("predictions/**/*.parquet"))
