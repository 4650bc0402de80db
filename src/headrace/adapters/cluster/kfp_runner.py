"""The training pipeline on Kubeflow Pipelines: the compiled package is submitted, followed, and run by the clock."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headrace import running
from headrace.adapters.cluster.kfp_api import ENDED, KfpApi
from headrace.adapters.cluster.kfp_package import Package
from headrace.adapters.run_folders import error, new_folder, outputs
from headrace.documents import read_json
from headrace.domain.lineage import digest
from headrace.domain.request import TrainingRequest
from headrace.errors import HeadraceError, Unavailable, UsageError
from headrace.ports import Schedule, StepEvent
from headrace.settings import Settings

COMPILED = "pipelines/compiled/training.yaml"
_POLL_S = 2.0
# So many polls in a row may fail, four minutes: an API server that is being moved ends no run.
_LOST_POLLS = 120
_SCHEDULE = "headrace-"
_CRON_FIELDS = 6


class KfpRunner:
    """The PipelineRunner port.

    What a run's steps leave for people (plan, verdict, report, rollout, an error) is with the experiment tracker; KFP's
    API gives of a task its state alone.

    Args:
        settings: where KFP is, and which image the steps run in.
        records: model, id of a pipeline run, folder: puts into the folder what the steps of that run left.
        pause: waits so many seconds.
    """

    def __init__(
        self,
        settings: Settings,
        records: Callable[[str, str, Path], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._records = records
        self._pause = pause

    def submit(self, request: TrainingRequest, follow: Callable[[StepEvent], None]) -> Path:
        """See the port. The same request while its run is under way follows that run.

        Whoever stops following does not stop the run.
        """
        package = self._package()
        api = KfpApi(self._settings)
        run_id = self._start(api, request, package)
        run = self._wait(api, run_id, package.steps, follow)
        folder = new_folder(self._settings.home, request.model)
        if run.state == "SUCCEEDED":
            self._records(request.model, run_id, folder / run_id / "records")
            return folder
        raise self._why(api, request.model, run, folder, follow)

    def schedule(self, request: TrainingRequest, cron: str) -> Schedule:
        """See the port."""
        if len(cron.split()) != _CRON_FIELDS:
            raise UsageError(
                f"cron {cron!r} has {len(cron.split())} fields, not six: seconds, minutes, hours, day of the month, "
                "month, day of the week; '0 30 3 * * *' is half past three every night"
            )
        package = self._package()
        api = KfpApi(self._settings)
        name = f"{_SCHEDULE}{request.model}"
        mark = digest([_parameters(request), cron, package.id])
        before = [one for one in api.recurring() if one.display_name == name]
        same = [one for one in before if one.description == mark and one.mode == "ENABLE"][:1]
        if not same:
            api.create_recurring(request.model, name, mark, package, _parameters(request), cron)
        # The new one is there before the old ones go: a caller that is killed here leaves no model without.
        for one in before:
            if one not in same:
                api.delete_recurring(one.recurring_run_id)
        return Schedule(request, cron)

    def schedules(self) -> Sequence[Schedule]:
        """See the port."""
        ours = [one for one in KfpApi(self._settings).recurring() if one.display_name.startswith(_SCHEDULE)]
        return [_schedule(one) for one in sorted(ours, key=lambda one: str(one.display_name))]

    def unschedule(self, model: str) -> bool:
        """See the port."""
        api = KfpApi(self._settings)
        ours = [one for one in api.recurring() if one.display_name == f"{_SCHEDULE}{model}"]
        for one in ours:
            api.delete_recurring(one.recurring_run_id)
        return bool(ours)

    def _package(self) -> Package:
        return Package(self._settings.root / COMPILED, self._settings.components_image)

    def _start(self, api: KfpApi, request: TrainingRequest, package: Package) -> str:
        """The run of this request: the one that is under way, or a new one."""
        # Who asks, and why, makes no other run of it.
        name = f"{request.model}-{digest([request.model, list(request.overrides), package.id])[:12]}"
        under_way = api.runs(request.model, name)
        if under_way:
            return str(under_way[0].run_id)
        mine = str(api.create_run(request.model, name, package, _parameters(request)).run_id)
        # KFP takes a name any number of times. Of two that were started at once the older one stays; should both stay,
        # the steps' own run key keeps them from doing the same thing twice.
        oldest = next(iter(api.runs(request.model, name)), None)
        if oldest is None or oldest.run_id == mine:
            return mine
        api.terminate(mine)
        return str(oldest.run_id)

    def _wait(self, api: KfpApi, run_id: str, steps: frozenset[str], follow: Callable[[StepEvent], None]) -> Any:
        """Poll until the run has ended, and tell what its steps do; the run as it ended."""
        told: dict[str, str] = {}
        lost = 0
        while True:
            try:
                run = api.run(run_id)
                lost = 0
            except Unavailable as failed:
                lost += 1
                if lost > _LOST_POLLS:
                    raise Unavailable(f"{failed}; the run goes on: the same command follows it again") from failed
                self._pause(_POLL_S)
                continue
            for event in _events(run, steps, told):
                follow(event)
            if run.state in ENDED:
                return run
            self._pause(_POLL_S)

    def _why(
        self, api: KfpApi, model: str, run: Any, folder: Path, follow: Callable[[StepEvent], None]
    ) -> HeadraceError:
        """The error of a run that did not succeed: the step's own, if it could leave one."""
        seen = f"the run {run.run_id} in Kubeflow Pipelines ({api.link(run.run_id)})"
        if run.state == "CANCELED":
            return HeadraceError(f"{seen} was cancelled")
        self._records(model, run.run_id, folder / run.run_id / "records")
        found = outputs(folder, running.FAILURE)
        if found is not None:
            failure = read_json(running.Failure, found)
            follow(StepEvent(failure.step, "failed", failure.message))
            return error(failure.error, failure.message)
        said = run.error.message if run.error and run.error.message else ""
        return HeadraceError(
            f"{seen} failed{f' ({said})' if said else ''}, and the step left no word: it was killed, or never started; "
            f"`kubectl get pods -A -l pipeline/runid={run.run_id}` lists its pods"
        )


def _parameters(request: TrainingRequest) -> dict[str, Any]:
    return {"model": request.model, "overrides": list(request.overrides), "reason": request.reason}


def _events(run: Any, steps: frozenset[str], told: dict[str, str]) -> Sequence[StepEvent]:
    """What is new of the steps, in the order in which they began; drivers and conditions are KFP's own affair."""
    details = run.run_details.task_details or () if run.run_details else ()
    ours = [task for task in details if task.display_name in steps]
    events = []
    for task in sorted(ours, key=lambda task: (task.start_time is None, task.start_time)):
        name, state = task.display_name, task.state
        if name not in told and state in ("RUNNING", "SUCCEEDED", "FAILED"):
            told[name] = "RUNNING"
            events.append(StepEvent(name, "started"))
        if state == "SUCCEEDED" and told[name] != state:
            told[name] = state
            events.append(StepEvent(name, "succeeded", elapsed_s=_elapsed_s(task)))
    return events


def _elapsed_s(task: Any) -> float:
    if task.start_time is None or task.end_time is None:
        return 0.0
    return float(max(0.0, (task.end_time - task.start_time).total_seconds()))


def _schedule(recurring: Any) -> Schedule:
    given = dict(recurring.runtime_config.parameters or {}) if recurring.runtime_config else {}
    cron = recurring.trigger.cron_schedule.cron if recurring.trigger and recurring.trigger.cron_schedule else ""
    model = str(given.get("model") or recurring.display_name.removeprefix(_SCHEDULE))
    request = TrainingRequest(model, tuple(given.get("overrides") or ()), str(given.get("reason", "")))
    return Schedule(request, cron, recurring.mode == "ENABLE")
