"""The executor input: a compiled pipeline's own commands, run with it as processes, do what KFP would have them do."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from pipelines.compile import COMPILED
from tests.cluster.step_jobs import job
from tests.cluster.steps import PipelineRun, Task, run_here

PIPELINE = """
import sys
from kfp import compiler, dsl


@dsl.component(base_image="image", install_kfp_package=False)
def make(words: list, run: str, made: dsl.Output[dsl.Dataset]) -> int:
    from pathlib import Path

    Path(made.path).mkdir(parents=True)
    (Path(made.path) / "words.txt").write_text(" ".join([*words, run]))
    return len(words)


@dsl.component(base_image="image", install_kfp_package=False)
def count(made: dsl.Input[dsl.Dataset], times: int) -> int:
    from pathlib import Path

    return len((Path(made.path) / "words.txt").read_text().split()) * times


@dsl.pipeline(name="small")
def small(words: list, times: int = 2):
    one = make(words=words, run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
    with dsl.If(one.outputs["Output"] == 2, name="two"):
        count(made=one.outputs["made"], times=times)


compiler.Compiler().compile(small, sys.argv[1])
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.py").write_text(PIPELINE)
    subprocess.run([sys.executable, "small.py", "small.yaml"], cwd=folder, check=True, capture_output=True, timeout=60)
    return (folder / "small.yaml").read_text()


def run(text: str, folder: Path, **arguments: object) -> dict[str, object]:
    """Task to its output, in the order in which they ran."""
    made = PipelineRun(text, arguments, str(folder / "root"), "r1")
    outputs = {}
    for task in made.tasks():
        result = run_here(task, folder, {}, folder / "log.txt")
        outputs[task.name] = result["parameterValues"]["Output"]
        made.finished(task, result)
    return outputs


def test_artefacts_and_outputs_are_handed_on_and_placeholders_filled_in(small: str, tmp_path: Path):
    assert run(small, tmp_path, words=["a", "b"]) == {"make": 2, "count": 6}
    assert (tmp_path / "root" / "small" / "r1" / "make" / "made" / "words.txt").read_text() == "a b r1"


def test_what_a_condition_keeps_out_does_not_run(small: str, tmp_path: Path):
    assert run(small, tmp_path, words=["a"]) == {"make": 1}


def test_a_failed_command_is_an_error_with_its_log(small: str, tmp_path: Path):
    made = PipelineRun(small, {"words": ["a", 1]}, str(tmp_path / "root"), "r1")
    with pytest.raises(subprocess.CalledProcessError):
        run_here(next(made.tasks()), tmp_path, {}, tmp_path / "log.txt")
    assert "TypeError" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("arguments", [{}, {"words": ["a"], "more": 1}])
def test_arguments_that_do_not_fit_are_refused(small: str, arguments: dict):
    with pytest.raises(ValueError, match="parameters"):
        PipelineRun(small, arguments, "/nowhere", "r1")


def pretend(promoted: int) -> list[Task]:
    """The tasks of the real pipeline, none of them run."""
    text = (COMPILED / "training.yaml").read_text()
    made = PipelineRun(text, {"model": "m"}, "s3://bucket/pipelines", str(uuid.UUID(int=1)))
    seen = []
    for task in made.tasks():
        seen.append(task)
        made.finished(task, {"parameterValues": {"Output": 12 if task.name == "register" else promoted}})
    return seen


def test_the_real_pipeline_runs_its_steps_in_order():
    assert [task.name for task in pretend(1)] == ["prepare", "train", "evaluate", "register", "deploy"]
    assert [task.name for task in pretend(0)] == ["prepare", "train", "evaluate"]


def test_a_step_finds_its_artefacts_where_kfp_puts_them():
    prepare, train, *_, deploy = pretend(1)
    root = f"training/{uuid.UUID(int=1)}"
    assert prepare.output_file == f"/s3/bucket/pipelines/{root}/prepare/output_metadata.json"
    assert prepare.input["inputs"]["parameterValues"] == {
        "model": "m",
        "overrides": [],
        "pipeline_run": str(uuid.UUID(int=1)),
        "reason": "asked for by hand",
    }
    (plan,) = train.input["inputs"]["artifacts"]["plan"]["artifacts"]
    assert plan["uri"] == f"s3://bucket/pipelines/{root}/prepare/plan"
    assert deploy.input["inputs"]["parameterValues"] == {"version": 12}
    assert json.dumps(deploy.input) in deploy.command


def test_a_steps_job_has_what_was_compiled_for_its_pod():
    train = pretend(1)[1]
    made = job(train, "r1")
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][:2] == ["python3", "-c"]
    assert json.loads(container["command"][3]) == train.input
    assert tuple(container["command"][4:]) == train.command
    environment = {one["name"]: one["valueFrom"] for one in container["env"]}
    assert environment["AWS_SECRET_ACCESS_KEY"]["secretKeyRef"]["name"] == "headrace-store"
    assert environment["HEADRACE_ONLINE_STORE"]["secretKeyRef"]["optional"]
    assert not environment["HEADRACE_CONTEXT"]["configMapKeyRef"]["optional"]
    assert container["resources"] == {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}}
    assert (made["spec"]["backoffLimit"], pod["activeDeadlineSeconds"]) == (1, 12 * 3600)
    assert made["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == "step"
