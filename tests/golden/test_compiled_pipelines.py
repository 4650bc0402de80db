"""The committed pipelines are what the code compiles to, and hold what a cluster needs."""

from pathlib import Path

import yaml

from pipelines.compile import COMPILED, compile_all


def test_compiled_pipelines_are_up_to_date(tmp_path: Path):
    committed = {path.name: path.read_text() for path in COMPILED.glob("*.yaml")}
    assert compile_all(tmp_path) == committed, "run `make golden`"


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path):
    assert compile_all(tmp_path / "a") == compile_all(tmp_path / "b")


def executors() -> list[dict]:
    document = yaml.safe_load((COMPILED / "training.yaml").read_text())
    return list(document["deploymentSpec"]["executors"].values())


def test_no_step_installs_anything_at_run_time():
    for executor in executors():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_every_step_is_one_call_into_headrace():
    for executor in executors():
        source = executor["container"]["command"][-1]
        assert source.count("from headrace.bootstrap import run_step") == 1
        assert source.count("import") == 5, "four lines of kfp's, and ours"


def test_every_input_is_described():
    document = yaml.safe_load((COMPILED / "training.yaml").read_text())
    assert all("description" in p for p in document["root"]["inputDefinitions"]["parameters"].values())


def test_the_only_condition_compares_an_integer():
    document = yaml.safe_load((COMPILED / "training.yaml").read_text())
    conditions = [
        t["triggerPolicy"]["condition"] for t in document["root"]["dag"]["tasks"].values() if "triggerPolicy" in t
    ]
    assert conditions == ["int(inputs.parameter_values['pipelinechannel--evaluate-Output']) == 1"]
