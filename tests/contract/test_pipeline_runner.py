"""The PipelineRunner port: one suite for kfp.local and for Kubeflow Pipelines, each running a small pipeline for real.

The local runner runs in a process of its own, because it takes stdout; the cluster's talks to a stand-in for KFP's
server, which runs the tasks as KFP's launcher does.
"""

import json
import os
import pty
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.adapters.cluster.kfp_runner import KfpRunner
from headrace.adapters.run_folders import outputs
from headrace.domain.request import TrainingRequest
from headrace.settings import Settings
from tests.contract.stand_in_kfp import StandInKfp

ROOT = Path(__file__).parents[2]

# A project whose pipeline has the signature of the real one and one step, which does what `reason` says and leaves its
# files with a registry, as the real steps do.
PIPELINE = """
from kfp import dsl


@dsl.component(base_image="image", install_kfp_package=False)
def act(model: str, overrides: list, reason: str, note: dsl.Output[dsl.Artifact]) -> int:
    import os
    import tempfile
    from pathlib import Path

    from headrace import running
    from headrace.domain.request import TrainingRequest
    from headrace.errors import DataError
    from headrace.steps.last_words import left_with
    from tests.fake_registry import FakeModelRegistry

    registry = FakeModelRegistry(Path("records"))
    given = {"request": TrainingRequest(model, tuple(overrides), reason), "pipeline_run": "p1"}
    with running.step("act"), left_with(registry, "act", given):
        running.progress("act", f"{model} {overrides} {reason}")
        tempfile.mkdtemp()
        if reason == "fail":
            raise DataError("column 'x' is missing")
        if reason == "die":
            os._exit(3)
        Path(note.path).mkdir(parents=True)
        (Path(note.path) / "verdict.json").write_text("{}")
        registry.log_files(registry.start_run(model, "k1", {}), Path(note.path), "evaluation")
    return 1


@dsl.pipeline(name="training")
def training(model: str, overrides: list, reason: str):
    act(model=model, overrides=overrides, reason=reason)
"""

COMPILE = """
from kfp import compiler
from pipelines.training import training
compiler.Compiler().compile(training, "pipelines/compiled/training.yaml")
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
REQUEST = TrainingRequest("m", ("a=1",), "go")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    (root / "pipelines" / "compiled").mkdir(parents=True)
    (root / "pipelines" / "training.py").write_text(PIPELINE)
    # The tests' fakes, without the project that they are in.
    (root / "path").mkdir()
    (root / "path" / "tests").symlink_to(ROOT / "tests")
    subprocess.run([sys.executable, "-c", COMPILE], cwd=root, check=True, capture_output=True, timeout=60)
    return root


@pytest.fixture
def project(tmp_path: Path, template: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "project", symlinks=True))


def environment(project: Path) -> dict[str, str]:
    """What the step of the pipeline finds."""
    return {"PYTHONPATH": str(project / "path"), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def kfp(project: Path) -> Iterator[StandInKfp]:
    server = StandInKfp(project, environment(project))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def cluster_runner(project: Path, url: str, **changes: str) -> KfpRunner:
    """Against a server at `url`; what steps left is in the project's folder `records`."""

    def records(model: str, pipeline_run: str, to: Path) -> None:
        for run in sorted((project / "records").glob("*")):
            shutil.copytree(run, to, dirs_exist_ok=True)

    settings = Settings(project, project / "home", context="cluster", kfp_url=url, **changes)
    return KfpRunner(settings, records, pause=lambda seconds: None)


def submit_here(project: Path, reason: str, stderr: int = subprocess.DEVNULL) -> dict:
    command = [sys.executable, "-c", PROGRAM, str(project), reason]
    subprocess.run(
        command, cwd=project, env={**os.environ, **environment(project)}, check=True, stderr=stderr, timeout=60
    )
    return json.loads((project / "said.json").read_text())


def submit_to(runner: KfpRunner, reason: str) -> dict:
    events: list[list[str]] = []
    said: dict = {"events": events}
    try:
        folder = runner.submit(
            TrainingRequest("m", ("a=1",), reason),
            lambda event: events.append([event.step, event.state, event.message]),
        )
    except Exception as failed:
        return said | {"error": type(failed).__name__, "message": str(failed)}
    return said | {"verdict": str(outputs(folder, "verdict.json"))}


@pytest.fixture(params=["local", "cluster"])
def submit(request: pytest.FixtureRequest, project: Path) -> Callable[[str], dict]:
    """Runs the pipeline with a reason, and says what came of it."""
    if request.param == "local":
        return lambda reason: submit_here(project, reason)
    runner = cluster_runner(project, request.getfixturevalue("kfp").url)
    return lambda reason: submit_to(runner, reason)


def test_steps_are_followed_and_their_files_found(submit: Callable[[str], dict]):
    said = submit("go")
    assert [event[:2] for event in said["events"] if event[1] != "progress"] == [
        ["act", "started"],
        ["act", "succeeded"],
    ]
    assert Path(said["verdict"]).read_text() == "{}"


def test_a_steps_error_is_raised_as_it_was(submit: Callable[[str], dict]):
    said = submit("fail")
    assert (said["error"], said["message"]) == ("DataError", "column 'x' is missing")
    assert said["events"][-1] == ["act", "failed", "column 'x' is missing"]


def test_a_step_that_dies_without_a_word_is_told_with_where_to_look(submit: Callable[[str], dict]):
    said = submit("die")
    assert said["error"] == "HeadraceError"
    assert "its log is" in said["message"] or "lists its pods" in said["message"]


def test_only_the_last_runs_are_kept(submit: Callable[[str], dict], project: Path):
    runs = project / "home" / "runs" / "m"
    for day in range(1, 8):
        (runs / f"2013010{day}T000000.000000").mkdir(parents=True)
    submit("go")
    kept = sorted(path.name for path in runs.iterdir())
    assert len(kept) == 5
    assert kept[0] == "20130104T000000.000000"


def test_a_local_runs_progress_and_log_are_there(project: Path):
    said = submit_here(project, "die")
    assert ["act", "progress", "m ['a=1'] die"] in said["events"]
    assert Path(said["message"].rpartition("its log is ")[2]).is_file()


def test_steps_are_followed_on_a_terminal_too(project: Path):
    """What draws on a terminal must not take stdout away from the runner."""
    ours, theirs = pty.openpty()
    try:
        said = submit_here(project, "go", stderr=theirs)
        drawn = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert [state for _, state, _ in said["events"]] == ["started", "progress", "succeeded"]
    assert "✓" in drawn
    assert "headrace.step" not in drawn


def test_temporary_files_of_a_run_are_gone_after_it(project: Path):
    submit_here(project, "go")
    assert list((project / "home").rglob("tmp")) == []
