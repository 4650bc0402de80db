"""Fault 8: MLflow is down. No service needs it; a promotion fails, says so, and is finished by the same call."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from headrace import configuration
from headrace.adapters.local import mlflow_server
from headrace.documents import write_json
from headrace.domain.lineage import ModelVersion
from headrace.domain.request import TrainingRequest
from headrace.domain.split import Split
from headrace.errors import Unavailable
from headrace.running import parse
from headrace.steps import handover
from tests import fakes
from tests.contract.conftest import eventually
from tests.contract.traffic import Traffic, client, post
from tests.faults.house import MODEL, ROOT
from tests.faults.rollouts import between
from tests.faults.rollouts.platform import POLICY, Rollouts

# The pipeline's own way to run a step.
STEP = """
import sys
from headrace.bootstrap import run_step
run_step("deploy", plan_in=sys.argv[1], version=int(sys.argv[2]), out=sys.argv[1])
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A folder with the plan of a run."""
    request = TrainingRequest(MODEL)
    config = replace(configuration.compose(ROOT, request), rollout=POLICY)
    lineage = fakes.lineage(MODEL)
    made = handover.Plan(request, config, lineage.fingerprint, lineage.code, "k", "p", "test")
    write_json(tmp_path / handover.PLAN, made)
    return tmp_path


def deploy(rollouts: Rollouts, plan: Path, version: ModelVersion) -> subprocess.CompletedProcess[str]:
    """The step as the pipeline runs it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", STEP, str(plan), str(version.version)],
        cwd=ROOT,
        env=rollouts.house.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_mlflow_that_is_down_keeps_no_service_from_answering_nor_from_starting(rollouts: Rollouts, plan: Path) -> None:
    house, version, before = rollouts.house, rollouts.register(), rollouts.route()
    with rollouts.nothing_changes(version):
        house.processes.remove(mlflow_server.NAME)
        done = deploy(rollouts, plan, version)
    assert done.returncode == Unavailable.exit_code, done.stderr
    failed = [found for found in map(parse, done.stderr.splitlines()) if found and found[0].state == "failed"]
    assert [error for _, error in failed] == ["Unavailable"]
    said = failed[0][0].message
    assert said.startswith(f"MLflow at {house.settings.tracking_uri} does not answer (")
    assert "Connection refused" in said
    assert not (plan / handover.ROLLOUT).exists()

    house.processes.stop_all()
    house.processes.start_daemon()
    assert mlflow_server.NAME not in {state.name for state in house.processes.states()}

    def answered() -> bool:
        try:
            with client(house.url) as connection:
                return post(connection, MODEL, house.body) == (200, before.split.stable)
        except OSError:
            return False

    eventually(answered)
    rollouts.start_mlflow()
    assert rollouts.registry.alias(MODEL, "champion") == before.split.stable
    with Traffic(house.url, MODEL, body=house.body) as traffic:
        done = deploy(rollouts, plan, version)
    assert done.returncode == 0, done.stderr
    assert traffic.lost == []
    assert json.loads((plan / handover.ROLLOUT).read_text())["finished"]
    assert rollouts.route().split == Split(version.version, previous=before.split.stable)
    assert rollouts.registry.alias(MODEL, "champion") == version.version


# The first and the last of what it is told.
CALLS = {"champion": "POST .*/registered-models/alias$", "finished": "POST .*/model-versions/set-tag$"}


@pytest.mark.parametrize("call", CALLS)
def test_mlflow_that_goes_down_when_the_traffic_has_moved_is_told_by_the_same_call_later(
    rollouts: Rollouts, call: str
) -> None:
    version, before = rollouts.register(), rollouts.route().split.stable
    registry, number = rollouts.registry, version.version
    registry.set_alias(MODEL, "challenger", number)
    with Traffic(rollouts.house.url, MODEL, body=rollouts.house.body) as traffic:
        with (
            rollouts.between.misbehaving(CALLS[call], between.refuse),
            pytest.raises(Unavailable, match=f"v{number} answers all requests, but it is not recorded: MLflow at "),
        ):
            rollouts.roll_out(version)
        # What the proxy does is whole, and the way back is open.
        assert rollouts.route().split == Split(number, previous=before)
        assert registry.rollout(MODEL, number) is None
        written = rollouts.route().generation
        assert rollouts.roll_out(version).finished
        traffic.mark()
        traffic.wait_for(20)
    assert traffic.lost == []
    assert set(traffic.answered) == {number}
    assert rollouts.route().generation == written, "the traffic moved once"
    assert registry.alias(MODEL, "champion") == number
    assert registry.alias(MODEL, "challenger") is None
    assert registry.rollout(MODEL, number) == "finished"
    assert {endpoint.version for endpoint in rollouts.deployer.running(MODEL)} == {before, number}
