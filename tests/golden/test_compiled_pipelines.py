"""The committed pipelines are what the code compiles to, and hold what a cluster needs."""

from pathlib import Path

import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from components import IMAGE
from headrace.settings import Settings, variable
from pipelines.cluster import NEEDED, SECRETS, SETTINGS
from pipelines.compile import COMPILED, compile_all


def test_compiled_pipelines_are_up_to_date(tmp_path: Path):
    committed = {path.name: path.read_text() for path in COMPILED.glob("*.yaml")}
    assert compile_all(tmp_path) == committed, "run `make golden`"


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path):
    assert compile_all(tmp_path / "a") == compile_all(tmp_path / "b")


def documents() -> tuple[dict, dict]:
    """The pipeline, and what is only for Kubernetes."""
    pipeline, platform = yaml.safe_load_all((COMPILED / "training.yaml").read_text())
    return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def executors() -> list[dict]:
    return list(documents()[0]["deploymentSpec"]["executors"].values())


def test_kfps_own_parsers_take_the_pipeline():
    pipeline, pods = documents()
    json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())
    for pod in pods.values():
        json_format.ParseDict(pod, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    loaded = components.load_component_from_file(str(COMPILED / "training.yaml"))
    assert sorted(loaded.component_spec.inputs) == ["model", "overrides", "reason"]


def test_every_step_has_the_placeholder_of_an_image():
    """It is replaced when the pipeline is submitted; a registry in it would be somebody's own."""
    assert {executor["container"]["image"] for executor in executors()} == {IMAGE}
    assert IMAGE.count("/") == 1


def test_every_step_has_its_settings_secrets_and_memory():
    pipeline, pods = documents()
    assert sorted(pods) == sorted(pipeline["deploymentSpec"]["executors"])
    for pod in pods.values():
        needed, optional = pod["configMapAsEnv"]
        assert not needed.get("optional")
        assert "HEADRACE_CONTEXT" in {one["envVar"] for one in needed["keyToEnv"]}
        assert optional["optional"]
        secrets = {one["secretName"]: one for one in pod["secretAsEnv"]}
        assert sorted(secrets) == ["headrace-online-store", "headrace-steps", "headrace-store"]
        assert [name for name, one in secrets.items() if not one["optional"]] == ["headrace-store"]
        assert pod["podMetadata"]["labels"]["app.kubernetes.io/part-of"] == "headrace"
    for executor in executors():
        resources = executor["container"]["resources"]
        assert {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"} <= set(resources)


def test_no_secret_is_a_parameter_or_a_plain_value():
    text = (COMPILED / "training.yaml").read_text()
    pipeline, _ = documents()
    assert all("env" not in executor["container"] for executor in executors())
    assert not [
        name for name in pipeline["root"]["inputDefinitions"]["parameters"] if "secret" in name or "key" in name
    ]
    assert "AWS_SECRET_ACCESS_KEY" in text


def test_every_step_but_the_rollout_has_an_end_and_only_long_ones_begin_again():
    pipeline, pods = documents()
    assert {name for name, pod in pods.items() if "activeDeadlineSeconds" not in pod} == {"exec-deploy"}
    top = pipeline["root"]["dag"]["tasks"]
    tasks = {**top, **pipeline["components"]["comp-condition-1"]["dag"]["tasks"]}
    assert {
        name: int(task["retryPolicy"]["maxRetryCount"]) for name, task in tasks.items() if "retryPolicy" in task
    } == {
        "train": 1,
        "deploy": 1,
    }
    assert [name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")] == ["train"]


def test_settings_that_pods_get_exist():
    """Each is known to the program that reads it, which refuses what it does not know."""
    known = {variable(name) for name in Settings.__dataclass_fields__}
    ours = {name for name in (*NEEDED, *SETTINGS, *SECRETS) if name.startswith("HEADRACE_")}
    assert ours <= known


def test_no_step_installs_anything_at_run_time():
    for executor in executors():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_every_step_is_one_call_into_headrace():
    for executor in executors():
        source = executor["container"]["command"][-1]
        assert source.count("from headrace.bootstrap import run_step") == 1
        assert source.count("import") == 5, "four lines of kfp's, and ours"


def test_every_input_is_described():
    document, _ = documents()
    assert all("description" in p for p in document["root"]["inputDefinitions"]["parameters"].values())


def test_the_only_condition_compares_an_integer():
    document, _ = documents()
    conditions = [
        t["triggerPolicy"]["condition"] for t in document["root"]["dag"]["tasks"].values() if "triggerPolicy" in t
    ]
    assert conditions == ["int(inputs.parameter_values['pipelinechannel--evaluate-Output']) == 1"]
