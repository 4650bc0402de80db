"""What only Kubeflow Pipelines has: runs that outlive their caller, schedules, and a server that may not answer."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from headrace.adapters.local.kfp_runner import LocalKfpRunner
from headrace.domain.request import TrainingRequest
from headrace.errors import HeadraceError, Unavailable, UsageError
from headrace.ports import Schedule, StepEvent
from headrace.settings import Settings
from tests.conftest import free_ports
from tests.contract.stand_in_kfp import Refused, StandInKfp
from tests.contract.test_pipeline_runner import REQUEST, ROOT, cluster_runner, kfp, project, template

__all__ = ["kfp", "project", "template"]

NIGHTLY = "0 30 3 * * *"


def unheard(event: StepEvent) -> None:
    """Nobody follows."""


def states(kfp: StandInKfp) -> list[str]:
    return [run.model.state for run in kfp.runs.values()]


def test_the_same_request_follows_the_run_that_is_under_way(project: Path, kfp: StandInKfp):
    runner, seen = cluster_runner(project, kfp.url), []

    def once_more(event: StepEvent) -> None:
        if event.state == "started":
            another = TrainingRequest("m", ("a=1",), "somebody else asks")
            cluster_runner(project, kfp.url).submit(another, lambda event: seen.append(event.state))

    runner.submit(REQUEST, once_more)
    assert states(kfp) == ["SUCCEEDED"]
    assert seen == ["started", "succeeded"]


def test_another_request_is_another_run(project: Path, kfp: StandInKfp):
    runner = cluster_runner(project, kfp.url)

    def another(event: StepEvent) -> None:
        if event.state == "started":
            cluster_runner(project, kfp.url).submit(TrainingRequest("m", ("a=2",), "go"), unheard)

    runner.submit(REQUEST, another)
    assert states(kfp) == ["SUCCEEDED", "SUCCEEDED"]


def test_a_request_whose_run_has_ended_is_run_again(project: Path, kfp: StandInKfp):
    runner = cluster_runner(project, kfp.url)
    runner.submit(REQUEST, unheard)
    runner.submit(REQUEST, unheard)
    assert states(kfp) == ["SUCCEEDED", "SUCCEEDED"]


def test_of_two_that_start_at_once_the_older_run_stays(project: Path, kfp: StandInKfp):
    def another_is_faster(asked: object) -> None:
        kfp.before_run = lambda asked: None
        twin = kfp.models.sanitize_for_serialization(asked)
        kfp.make(kfp.read(json.dumps(twin).encode(), "V2beta1Run"))

    kfp.before_run = another_is_faster
    cluster_runner(project, kfp.url).submit(REQUEST, unheard)
    assert states(kfp) == ["SUCCEEDED", "CANCELED"]


def test_the_steps_run_in_the_image_of_the_settings(project: Path, kfp: StandInKfp):
    cluster_runner(project, kfp.url, components_image="registry.invalid/components@sha256:12").submit(REQUEST, unheard)
    (run,) = kfp.runs.values()
    executors = next(yaml.safe_load_all(run.text))["deploymentSpec"]["executors"].values()
    assert {one["container"]["image"] for one in executors} == {"registry.invalid/components@sha256:12"}
    assert run.model.service_account == "headrace-steps"


def test_a_server_that_is_away_for_a_while_ends_no_run(project: Path, kfp: StandInKfp):
    def goes_away(event: StepEvent) -> None:
        if event.state == "started":
            kfp.faults = [Refused(503, "no backend")] * 5

    cluster_runner(project, kfp.url).submit(REQUEST, goes_away)
    assert states(kfp) == ["SUCCEEDED"]


def test_a_server_that_stays_away_is_said_and_the_run_goes_on(project: Path, kfp: StandInKfp):
    def goes_away(event: StepEvent) -> None:
        kfp.faults = [Refused(503, "no backend")] * 1000

    with pytest.raises(Unavailable, match=r"no backend.*the run goes on: the same command follows it again"):
        cluster_runner(project, kfp.url).submit(REQUEST, goes_away)
    assert states(kfp) == ["RUNNING"]


def test_a_run_that_somebody_cancels_is_told_as_that(project: Path, kfp: StandInKfp):
    def cancel(event: StepEvent) -> None:
        next(iter(kfp.runs.values())).terminate()

    with pytest.raises(HeadraceError, match="was cancelled"):
        cluster_runner(project, kfp.url).submit(REQUEST, cancel)


def test_nobody_answers(project: Path):
    (port,) = free_ports(1)
    with pytest.raises(Unavailable, match=r"does not answer at http://127\.0\.0\.1:\d+ \(.*refused.*HEADRACE_KFP_URL"):
        cluster_runner(project, f"http://127.0.0.1:{port}").submit(REQUEST, unheard)


@pytest.mark.parametrize("status", [401, 403])
def test_who_is_not_let_in_is_told_how(project: Path, kfp: StandInKfp, status: int):
    kfp.faults = [Refused(status, "no identity")]
    with pytest.raises(UsageError, match=f"does not let us in .{status}: no identity.*token"):
        cluster_runner(project, kfp.url).submit(REQUEST, unheard)


def test_a_server_without_the_api_is_told_as_too_old_or_something_else(project: Path, kfp: StandInKfp):
    kfp.faults = [Refused(404, "Not Found")]
    with pytest.raises(UsageError, match=r"no v2beta1 API of Kubeflow Pipelines .*older than 2\.0"):
        cluster_runner(project, kfp.url).submit(REQUEST, unheard)


def test_several_users_have_a_namespace_and_a_token(project: Path, kfp: StandInKfp, monkeypatch: pytest.MonkeyPatch):
    token = project / "token"
    token.write_text("t1")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    kfp.multi_user, kfp.token = True, "t1"
    runner = cluster_runner(project, kfp.url, namespace="team")
    runner.submit(REQUEST, unheard)
    assert [one.namespace for one in kfp.experiments.values()] == ["team"]


def test_a_pipeline_that_is_not_there_is_said(project: Path, kfp: StandInKfp):
    shutil.rmtree(project / "pipelines" / "compiled")
    with pytest.raises(UsageError, match=r"training\.yaml is not there: .*pipelines\.compile"):
        cluster_runner(project, kfp.url).submit(REQUEST, unheard)


@pytest.mark.parametrize("text", ["", "a: [", "just words", "root: {}"])
def test_a_file_that_is_no_pipeline_is_said(project: Path, kfp: StandInKfp, text: str):
    (project / "pipelines" / "compiled" / "training.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"training\.yaml is no compiled pipeline"):
        cluster_runner(project, kfp.url).submit(REQUEST, unheard)


def test_a_schedule_is_set_listed_and_removed(kfp: StandInKfp, tmp_path: Path):
    """With the real pipeline: what is scheduled is read by all of KFP's parsers."""
    runner = cluster_runner(ROOT, kfp.url)
    request = TrainingRequest("flight_delay", ("train.max_iter=300",), "every night")
    assert runner.schedule(request, NIGHTLY) == Schedule(request, NIGHTLY)
    assert runner.schedules() == [Schedule(request, NIGHTLY)]
    (kept,) = kfp.recurring.values()
    assert (kept.max_concurrency, kept.no_catchup, kept.mode) == ("1", True, "ENABLE")
    assert runner.unschedule("flight_delay")
    assert not runner.unschedule("flight_delay")
    assert runner.schedules() == []


def test_the_same_schedule_twice_does_nothing_and_another_replaces_it(project: Path, kfp: StandInKfp):
    runner = cluster_runner(project, kfp.url)
    runner.schedule(REQUEST, NIGHTLY)
    first = list(kfp.recurring)
    runner.schedule(REQUEST, NIGHTLY)
    assert list(kfp.recurring) == first
    runner.schedule(REQUEST, "0 0 4 * * *")
    assert runner.schedules() == [Schedule(REQUEST, "0 0 4 * * *")]
    assert list(kfp.recurring) != first


def test_a_paused_schedule_is_listed_as_such_and_set_anew(project: Path, kfp: StandInKfp):
    runner = cluster_runner(project, kfp.url)
    runner.schedule(REQUEST, NIGHTLY)
    next(iter(kfp.recurring.values())).mode = "DISABLE"
    assert [one.active for one in runner.schedules()] == [False]
    runner.schedule(REQUEST, NIGHTLY)
    assert [one.active for one in runner.schedules()] == [True]


def test_every_model_has_a_schedule_of_its_own(project: Path, kfp: StandInKfp):
    runner = cluster_runner(project, kfp.url)
    for model in ("a", "b", "c"):
        runner.schedule(TrainingRequest(model), NIGHTLY)
    assert [one.request.model for one in runner.schedules()] == ["a", "b", "c"]
    runner.unschedule("b")
    assert [one.request.model for one in runner.schedules()] == ["a", "c"]


def test_a_cron_of_five_fields_is_explained(project: Path, kfp: StandInKfp):
    with pytest.raises(UsageError, match="has 5 fields, not six: seconds"):
        cluster_runner(project, kfp.url).schedule(REQUEST, "30 3 * * *")


def test_a_cron_that_the_server_refuses_is_told_in_its_words(project: Path, kfp: StandInKfp):
    with pytest.raises(UsageError, match="not a valid cron expression"):
        cluster_runner(project, kfp.url).schedule(REQUEST, "0 99 3 * * *")


def test_one_machine_has_no_schedules(project: Path):
    runner = LocalKfpRunner(Settings(project, project / "home"))
    with pytest.raises(UsageError, match=r"schedules need Kubeflow Pipelines.*headrace run m"):
        runner.schedule(REQUEST, NIGHTLY)
    assert runner.schedules() == ()
    assert not runner.unschedule("m")
