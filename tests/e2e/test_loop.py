"""The loop as a user has it: the README's commands, on real data, in a home of the test's own.

One test after the other on one platform, in this order: that is the story that the README tells.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pandas as pd
import pytest

from headrace.adapters.local import leftovers
from headrace.adapters.local.locks import held
from headrace.documents import read_contract
from headrace.learning.onnx_model import parity
from tests.conftest import free_ports
from tests.e2e import original

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.e2e


@dataclass
class Shell:
    """Runs headrace as a user does."""

    home: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *arguments: str, code: int = 0, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str):
        return json.loads(self.run(*arguments, "--json").stdout)

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("headrace")), *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        run = subprocess.Popen(
            self.command(*arguments),
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(run)
        return run


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home = tmp_path_factory.mktemp("loop") / "home"
    http, admin, mlflow, release = free_ports(4)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")} | {
        "HEADRACE_HOME": str(home),
        "HEADRACE_HTTP_PORT": str(http),
        "HEADRACE_ADMIN_PORT": str(admin),
        "HEADRACE_MLFLOW_PORT": str(mlflow),
        "HEADRACE_RELEASE_PORTS": str(release),
    }
    made = Shell(home, environment)
    try:
        yield made
    finally:
        made.run("down")
        assert not leftovers.tethered(os.path.realpath(home)), "down left processes behind"


@pytest.fixture(autouse=True)
def nothing_left_running(shell: Shell) -> Iterator[None]:
    """A command that a failed test left running would hold the model for the tests after it."""
    yield
    for run in shell.started:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        if run.stdout:
            run.stdout.close()
    shell.started.clear()


def model(shell: Shell, name: str = "flight_delay") -> dict:
    return next(m for m in shell.json("status")["models"] if m["model"] == name)


def until(condition, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.2)


def test_up_takes_flights_to_a_model_in_service_and_its_curl_line_answers(shell: Shell):
    said = shell.run("up").stderr
    line = next(line for line in said.splitlines() if line.strip().startswith("try "))
    answer = subprocess.run(["/bin/bash", "-c", line.split(None, 1)[1]], capture_output=True, text=True, check=True)
    body = json.loads(answer.stdout)
    assert (body["model"], body["version"]) == ("flight_delay", 1)
    assert 0 <= body["predictions"][0]["probability"] <= 1


def test_up_again_changes_nothing_and_says_so(shell: Shell):
    before = {p["name"]: p["pid"] for p in shell.json("status")["processes"]}
    assert "Nothing to do" in shell.run("up").stderr
    assert {p["name"]: p["pid"] for p in shell.json("status")["processes"]} == before


def test_the_same_inputs_twice_name_the_version_that_answers(shell: Shell):
    said = shell.run("run", "flight_delay").stderr
    assert "flight_delay v1 answers for these inputs already" in said


def test_lineage_says_what_made_the_champion(shell: Shell):
    lineage = shell.json("lineage", "flight_delay@champion")["lineage"]
    assert lineage["fingerprint"]["as_of"].startswith("2013-05-01")
    assert lineage["parent"] is None
    assert {"model.onnx", "contract.json", "golden.json"} <= set(lineage["files"])


def flight(shell: Shell, **more) -> dict:
    """What is known of a flight without looking anything up, and what to look it up by."""
    contract = read_contract(ROOT / "models/flight_delay/contract.yaml")
    sent = {f.name: model_example(shell)[f.name] for f in contract.features if f.view is None}
    return sent | {"flight_id": "UA 1545 2013-05-01 EWR", "tailnum": "N14228"} | more


def counted(shell: Shell, metric: str) -> dict[str, float]:
    url = model(shell)["endpoints"]["1"]["url"]
    lines = [line.rpartition(" ") for line in httpx.get(f"{url}/metrics", trust_env=False).text.splitlines()]
    return {name: float(value) for name, _, value in lines if name.startswith(metric)}


def test_features_are_looked_up_by_key_as_known_at_the_decision(shell: Shell):
    path = shell.home / "flight.json"
    path.write_text(json.dumps(flight(shell, decision_time="2013-05-01T00:00:00Z")))
    at_the_time = shell.json("predict", "flight_delay", "--file", str(path))["predictions"][0]
    ages = counted(shell, "headrace_feature_age_seconds_count")
    assert {name.split('view="')[1].split('"')[0]: count for name, count in ages.items() if count} == {
        "origin_departures": 1,
        "carrier_arrivals": 1,
        "origin_weather": 1,
        "planes": 1,
    }
    assert not counted(shell, "headrace_feature_fallbacks")
    # Today everything is years old: the contract says what to do without.
    path.write_text(json.dumps(flight(shell)))
    today = shell.json("predict", "flight_delay", "--file", str(path))["predictions"][0]
    stale = [name for name in counted(shell, "headrace_feature_fallbacks_total") if 'reason="stale"' in name]
    assert len(stale) == 4
    assert today["probability"] != at_the_time["probability"]


@pytest.fixture(scope="module")
def first_holdout(shell: Shell) -> original.Holdout:
    return original.holdout(ROOT, shell.home, shell.json("lineage", "flight_delay@1")["lineage"])


@pytest.mark.parametrize("ask", [original.ask_rows, original.ask_matrix, original.ask_tensors])
def test_the_whole_holdout_is_answered_as_the_estimator_before_its_export_does(shell: Shell, first_holdout, ask):
    served = ask(model(shell)["endpoints"]["1"]["url"], first_holdout)
    assert served.shape == first_holdout.expected.shape == (27_342,)
    flips, largest = parity("binary", first_holdout.expected, served)
    assert flips == 0
    assert largest <= first_holdout.tolerance


def test_two_runs_at_once_one_of_them_says_so(shell: Shell):
    with held(shell.home / "locks" / "flight_delay.lock", 5):
        refused = shell.run("run", "flight_delay", code=5)
    assert "flight_delay is being changed" in refused.stderr


def test_july_promotes_without_a_lost_request(shell: Shell):
    url = f"http://127.0.0.1:{shell.environment['HEADRACE_HTTP_PORT']}/v1/models/flight_delay/predict"
    row = model_example(shell)
    run = shell.start("run", "flight_delay", "as_of=2013-08-01")
    statuses: list[int] = []
    with httpx.Client(trust_env=False, timeout=10) as client:
        while run.poll() is None:
            statuses.append(client.post(url, json={"rows": [row]}).status_code)
            time.sleep(0.02)
    assert run.returncode == 0, run.stdout.read() if run.stdout else ""
    assert set(statuses) == {200}, f"{len(statuses)} requests"
    assert model(shell)["champion"] == 2
    assert "promoted" in model(shell)["verdict"]


def read_until(lines: Iterable[str], text: str) -> None:
    """Read what a command says until it has said something."""
    said = []
    for line in lines:
        said.append(line)
        if text in line:
            return
    pytest.fail(f"it never said {text!r}:\n{''.join(said)}")


def model_example(shell: Shell) -> dict:
    import yaml

    return yaml.safe_load((ROOT / "models/flight_delay/contract.yaml").read_text())["example"]


def test_december_rejects_and_the_report_says_why(shell: Shell):
    result = shell.json("run", "flight_delay", "as_of=2014-01-01")
    assert not result["promoted"]
    page = Path(result["report"]).read_text()
    assert "rejected" in page.lower()
    assert "calibration" in page
    assert model(shell)["champion"] == 2


def test_rejected_inputs_are_not_judged_again(shell: Shell):
    shell.run("run", "flight_delay", "as_of=2014-01-01", "--require-promotion", code=7, timeout_s=60)


def test_rollback_is_one_write(shell: Shell):
    shell.run("rollback", "flight_delay")
    assert model(shell)["weights"] == {"1": 100}
    assert shell.json("predict", "flight_delay")["version"] == 1
    assert shell.json("predict", "flight_delay", "--version", "2")["version"] == 2
    shell.run("rollback", "flight_delay")
    assert model(shell)["weights"] == {"2": 100}


@pytest.mark.parametrize(
    "arguments", [["up"], ["run", "flight_delay", "as_of=2013-10-01"], ["rollback", "flight_delay"], ["down"]]
)
def test_a_dry_run_says_what_would_be_done_and_does_nothing(shell: Shell, arguments: list[str]):
    before = shell.json("status")["models"]
    pids = {p["name"]: p["pid"] for p in shell.json("status")["processes"]}
    assert shell.run(*arguments, "--dry-run").stderr
    assert shell.json("status")["models"] == before
    assert {p["name"]: p["pid"] for p in shell.json("status")["processes"]} == pids


def test_a_rollback_cuts_a_rollout_short(shell: Shell):
    """The operator takes the canary away at 1 %; who drives it notices, and nothing of it stays."""
    run = shell.start("run", "flight_delay", "as_of=2013-10-01")
    assert run.stdout is not None
    read_until(run.stdout, "v2 99 %, v3 1 %")
    shell.run("rollback", "flight_delay")
    assert model(shell)["weights"] == {"2": 100}
    said = run.stdout.read()
    assert run.wait(60) == 0, said
    assert "v3 was taken back: rolled back by hand" in said
    assert set(model(shell)["endpoints"]) == {"1", "2"}
    assert "rolled back by hand" in shell.run("rollout", "explain", "flight_delay").stdout


def test_what_was_taken_back_is_tried_once_more_and_its_driver_killed(shell: Shell):
    run = shell.start("rollout", "resume", "flight_delay")
    assert run.stdout is not None
    read_until(run.stdout, "v2 90 %, v3 10 %")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(30)
    assert model(shell)["weights"] == {"2": 90, "3": 10}
    assert shell.json("rollout", "status", "flight_delay")["rollout"]["phase"] == "running"


def test_a_rollout_whose_driver_was_killed_goes_on_where_it_was(shell: Shell):
    said = shell.run("rollout", "resume", "flight_delay").stderr
    assert "v2 50 %, v3 50 %" in said
    assert "shadows" not in said
    assert model(shell)["weights"] == {"3": 100}
    shell.run("rollback", "flight_delay")
    assert model(shell)["weights"] == {"2": 100}


def test_a_killed_process_comes_back_by_itself(shell: Shell):
    pids = {p["name"]: p["pid"] for p in shell.json("status")["processes"]}
    os.kill(pids["flight-delay-v2"], signal.SIGKILL)
    until(lambda: model(shell)["endpoints"]["2"]["ready"])


def test_a_killed_supervisor_takes_everything_with_it_and_up_heals(shell: Shell):
    (daemon,) = leftovers.daemons(os.path.realpath(shell.home))
    os.kill(daemon.pid, signal.SIGKILL)
    until(lambda: not leftovers.tethered(os.path.realpath(shell.home)))
    shell.run("up")
    assert shell.json("predict", "flight_delay")["version"] == 2


def test_an_interrupted_run_registers_nothing_and_leaves_no_step_behind(shell: Shell):
    run = shell.start("run", "flight_delay", "as_of=2013-09-01")
    assert run.stdout is not None
    read_until(run.stdout, "rows to learn from")
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(30) == 130
    assert model(shell)["champion"] == 2
    assert shell.json("predict", "flight_delay")["version"] == 2


def test_a_run_whose_parent_is_killed_ends_its_step(shell: Shell):
    run = shell.start("run", "flight_delay", "as_of=2013-09-01")
    assert run.stdout is not None
    read_until(run.stdout, "rows to learn from")
    os.kill(run.pid, signal.SIGKILL)
    run.wait()

    def ended() -> bool:
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(ended)


def test_mlflow_killed_in_the_middle_costs_only_time(shell: Shell):
    run = shell.start("run", "bike_demand")
    assert run.stdout is not None
    read_until(run.stdout, "rows to learn from")
    pids = {p["name"]: p["pid"] for p in shell.json("status")["processes"]}
    os.kill(pids["mlflow"], signal.SIGKILL)
    rest = run.stdout.read()
    assert run.wait(300) == 0, rest
    assert model(shell, "bike_demand")["champion"] == 1


def test_bike_demand_runs_through_the_same_commands(shell: Shell):
    assert "Nothing to do" in shell.run("up", "bike_demand").stderr
    assert shell.json("predict", "bike_demand")["predictions"][0]["value"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["run", "flight_dely"], 2, "flight_delay"),
        (["run", "flight_delay", "train.max_itre=3"], 2, "max_itre"),
        (["run", "flight_delay", "as_of=2015-01-01"], 3, "2015-01-01"),
        (["run", "flight_delay", "as_of=2013-02-01"], 3, "choose as_of between"),
        (["lineage", "flight_delay"], 2, "MODEL@VERSION"),
        (["lineage", "flight_delay@99"], 3, "no version 99"),
        (["predict", "flight_delay", "--file", "/nowhere.json"], 2, "/nowhere.json"),
        (["rollback", "flight_delay", "--to", "99"], 3, "no version 99"),
        (["logs", "nobody"], 2, "mlflow"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(shell: Shell, arguments: list[str], code: int, told: str):
    assert told in shell.run(*arguments, code=code).stderr


def test_doctor_finds_nothing_wrong(shell: Shell):
    assert {f["level"] for f in shell.json("doctor")} <= {"OK", "WARN"}


def test_down_leaves_every_prediction_and_label_in_segments(shell: Shell):
    url = f"http://127.0.0.1:{shell.environment['HEADRACE_HTTP_PORT']}/v1/models/flight_delay"
    row = flight(shell, decision_time="2013-05-01T00:00:00Z")
    with httpx.Client(trust_env=False, timeout=10) as client:
        answer = client.post(f"{url}/predict", json={"rows": [row]}, headers={"X-Request-ID": "the-last"}).json()
        label = {"prediction_id": answer["predictions"][0]["id"], "late": 1}
        assert client.post(f"{url}/labels", json={"labels": [label]}).json() == {"accepted": 1}
    shell.run("down")
    assert not list((shell.home / "predictions" / "spool").glob("*.*"))
    logged = pd.read_parquet(shell.home / "predictions" / "predictions" / "model=flight_delay")
    last = logged[logged["request_id"] == "the-last"].iloc[0]
    assert (last["version"], last["role"]) == (answer["version"], "stable")
    assert last["prediction_id"] == label["prediction_id"]
    assert last["keys"] == {"flight_id": row["flight_id"], "tailnum": "N14228"}
    assert last["features"]["carrier"] == row["carrier"]
    assert last["prediction"] == pytest.approx(answer["predictions"][0]["probability"])
    # The rollouts of this story are in it too.
    assert set(logged["role"]) >= {"stable", "canary"}
    labels = pd.read_parquet(shell.home / "predictions" / "labels" / "model=flight_delay")
    assert labels["prediction_id"].tolist() == [label["prediction_id"]]


def test_down_stops_everything_and_up_brings_the_champions_back(shell: Shell):
    shell.run("down")
    assert not leftovers.tethered(os.path.realpath(shell.home))
    shell.run("down")
    shell.run("up")
    assert model(shell)["champion"] == 2
    assert shell.json("predict", "flight_delay")["version"] == 2
