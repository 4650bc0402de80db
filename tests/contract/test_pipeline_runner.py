"""The PipelineRunner port on this machine: kfp.local runs a small pipeline for real, in a process of its own."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

# A project whose pipeline has the signature of the real one and one step, which does what `reason` says.
PIPELINE = """
from kfp import dsl


@dsl.component(base_image="image", install_kfp_package=False)
def act(model: str, overrides: list, reason: str, note: dsl.Output[dsl.Artifact]) -> int:
    import os
    import tempfile
    from pathlib import Path

    from headrace import running
    from headrace.errors import DataError

    with running.step("act"):
        running.progress("act", f"{model} {overrides} {reason}")
        tempfile.mkdtemp()
        if reason == "fail":
            raise DataError("column 'x' is missing")
        if reason == "die":
            os._exit(3)
        Path(note.path).mkdir(parents=True)
        (Path(note.path) / "verdict.json").write_text("{}")
    return 1


@dsl.pipeline(name="training")
def training(model: str, overrides: list, reason: str):
    act(model=model, overrides=overrides, reason=reason)
"""

PROGRAM = """
import json, sys
from pathlib import Path
from headrace.adapters.local.kfp_runner import LocalKfpRunner, outputs
from headrace.cli.output import Steps
from headrace.domain.request import TrainingRequest
from headrace.settings import Settings

root, reason = Path(sys.argv[1]), sys.argv[2]
steps, events = Steps(), []

def follow(event):
    events.append([event.step, event.state, event.message])
    steps.follow(event)

said = {"events": events}
try:
    folder = LocalKfpRunner(Settings(root, root / "home")).submit(TrainingRequest("m", ("a=1",), reason), follow)
    said |= {"verdict": str(outputs(folder, "verdict.json"))}
except Exception as failed:
    said |= {"error": type(failed).__name__, "message": str(failed)}
finally:
    steps.close()
(root / "said.json").write_text(json.dumps(said))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "training.py").write_text(PIPELINE)
    return tmp_path


def submit(project: Path, reason: str, stderr: int = subprocess.DEVNULL) -> dict:
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(project), reason], cwd=project, check=True, stderr=stderr, timeout=60
    )
    return json.loads((project / "said.json").read_text())


def test_steps_are_followed_and_their_files_found(project: Path):
    said = submit(project, "go")
    assert said["events"] == [["act", "started", ""], ["act", "progress", "m ['a=1'] go"], ["act", "succeeded", ""]]
    assert Path(said["verdict"]).read_text() == "{}"


def test_a_steps_error_is_raised_as_it_was(project: Path):
    said = submit(project, "fail")
    assert (said["error"], said["message"]) == ("DataError", "column 'x' is missing")


def test_a_step_that_dies_without_a_word_is_told_with_the_log(project: Path):
    said = submit(project, "die")
    assert said["error"] == "HeadraceError"
    assert Path(said["message"].rpartition("its log is ")[2]).is_file()


def test_steps_are_followed_on_a_terminal_too(project: Path):
    """What draws on a terminal must not take stdout away from the runner."""
    ours, theirs = pty.openpty()
    try:
        said = submit(project, "go", stderr=theirs)
        drawn = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert [state for _, state, _ in said["events"]] == ["started", "progress", "succeeded"]
    assert "✓" in drawn
    assert "headrace.step" not in drawn


def test_temporary_files_of_a_run_are_gone_after_it(project: Path):
    submit(project, "go")
    assert list((project / "home").rglob("tmp")) == []


def test_only_the_last_runs_are_kept(project: Path):
    runs = project / "home" / "runs" / "m"
    for day in range(1, 8):
        (runs / f"2013010{day}T000000.000000").mkdir(parents=True)
    submit(project, "go")
    kept = sorted(path.name for path in runs.iterdir())
    assert len(kept) == 5
    assert kept[0] == "20130104T000000.000000"
