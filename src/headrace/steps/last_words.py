"""Why a step failed, left with the experiment tracker: a runner in a cluster sees a state and nothing else."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from headrace import running
from headrace.documents import read_json, write_json
from headrace.errors import HeadraceError
from headrace.ports import PIPELINE_RUN, ModelRegistry
from headrace.steps.handover import PLAN, Plan


@contextmanager
def left_with(registry: ModelRegistry, step: str, given: Mapping[str, Any]) -> Iterator[None]:
    """Leave the error of a step's body in a failed run of its own.

    Args:
        registry: where the word is left; what it does not take is lost, and the step's own error goes on.
        step: which step.
        given: its arguments: `prepare`'s request, or the folder of its plan, say which model and run it is.
    """
    try:
        yield
    except Exception as failed:
        with suppress(HeadraceError):
            error = running.in_our_words(failed)
            _leave(registry, running.Failure(step, type(error).__name__, str(error)), given)
        raise


def _leave(registry: ModelRegistry, failure: running.Failure, given: Mapping[str, Any]) -> None:
    if "request" in given:
        model, run_key, pipeline_run = given["request"].model, "", given["pipeline_run"]
    else:
        plan = read_json(Plan, given["plan_in"] / PLAN)
        model, run_key, pipeline_run = plan.request.model, plan.run_key, plan.pipeline_run
    run_id = registry.start_run(model, run_key, {PIPELINE_RUN: pipeline_run})
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / running.FAILURE
        write_json(file, failure)
        registry.log_files(run_id, file, "failure")
    registry.end_run(run_id, succeeded=False)
