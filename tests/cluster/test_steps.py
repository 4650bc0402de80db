"""The training pipeline as Kubeflow Pipelines would run it: flights from S3, a pod a step, and a version in service."""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace import bootstrap
from headrace.adapters.cluster.kfp_package import Package
from headrace.adapters.mlflow_registry import MlflowRegistry
from headrace.ports import Platform as Ports
from pipelines.compile import COMPILED
from tests.cluster.platform.fixtures import Platform, load_images
from tests.cluster.step_jobs import run_pipeline
from tests.contract.cluster_family import Cluster
from tests.contract.traffic import client

MODEL = "flight_delay"
IMAGE = "localhost/headrace/components:test"


class Run:
    """A pipeline that has run.

    Attributes:
        ports: those that `headrace --context cluster` has.
        outputs: task to what it gave.
        id: of the run.
    """

    def __init__(self, ports: Ports, outputs: Mapping[str, Mapping[str, Any]], id: str) -> None:
        self.ports, self.outputs, self.id = ports, outputs, id

    def output(self, task: str) -> int:
        """What a step returned."""
        return int(self.outputs[task]["parameterValues"]["Output"])


@pytest.fixture(scope="module")
def run(cluster_session: Cluster, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A first version of flight_delay, from the data to its traffic."""
    load_images(platform.kubectl, ("components",))
    cluster_session.clear()
    settings = replace(
        cluster_session.settings,
        home=tmp_path_factory.mktemp("steps"),
        serving_image="localhost/headrace/serving:test",
    )
    ports = bootstrap.platform(settings)
    if ports.registry.versions(MODEL):
        ports.registry.clear_alias(MODEL, "champion")
    run_id = f"run-{uuid.uuid4().hex[:8]}"
    outputs = run_pipeline(
        platform.kubectl,
        settings.namespace,
        Package(COMPILED / "training.yaml", IMAGE).text(),
        # What makes it another run than one that an earlier session left in the registry.
        {"model": MODEL, "overrides": [f"train.random_state={uuid.uuid4().int % 1_000_000}"], "reason": "a test"},
        f"s3://headrace/pipelines/{run_id}",
        run_id,
    )
    yield Run(ports, outputs, run_id)
    cluster_session.clear()
    platform.kubectl("delete", "jobs", "-n", settings.namespace, "-l", f"pipeline/runid={run_id}", "--wait=false")


def test_gate_promotes_and_the_version_has_its_lineage(run: Run) -> None:
    assert list(run.outputs) == ["prepare", "train", "evaluate", "register", "deploy"]
    assert run.output("evaluate") == 1
    version = run.ports.registry.version(MODEL, run.output("register"))
    assert version.lineage.pipeline_run == run.id
    assert version.lineage.code.content
    assert version.lineage.files["model.onnx"]
    assert version.lineage.fingerprint.outputs


def test_version_is_champion_and_answers_through_the_proxy(run: Run, platform: Platform) -> None:
    assert run.output("deploy") == 1
    number = run.output("register")
    route = run.ports.router.read(MODEL)
    assert route is not None
    assert route.split.stable == number
    assert run.ports.registry.alias(MODEL, "champion") == number
    directory = run.ports.model_directory(run.ports.registry.version(MODEL, number))
    rows = json.loads((directory / "golden.json").read_text())["rows"][:3]
    with client(platform.url("traefik")) as connection:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"/v1/models/{MODEL}/predict", json.dumps({"rows": rows}), headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
    assert answer.status == 200, said
    assert said["version"] == number
    assert len(said["predictions"]) == 3


def test_no_password_is_in_a_log_or_in_an_object_that_is_no_secret(run: Run, platform: Platform) -> None:
    namespace = "headrace"
    pods = platform.kubectl("get", "pods", "-n", namespace, "-o=name").split()
    told = [platform.kubectl("logs", "-n", namespace, pod, "--all-containers", "--tail=-1") for pod in pods]
    kinds = "pods,jobs,deployments,configmaps,events,ingressroutes,traefikservices"
    told.append(platform.kubectl("get", kinds, "-n", namespace, "-o=yaml"))
    text = "\n".join(told)
    assert run.id in text
    assert [name for name, password in platform.passwords.all().items() if password in text] == []


def test_what_the_steps_left_for_people_is_in_mlflow(run: Run, tmp_path: Path) -> None:
    assert isinstance(run.ports.registry, MlflowRegistry)
    run.ports.registry.records(MODEL, run.id, tmp_path)
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"plan.json", "verdict.json", "evaluation.json", "report.html", "rollout.json"} <= names
