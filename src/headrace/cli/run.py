"""`headrace run` and `headrace rollback`."""

from pathlib import Path
from typing import Any

import click

from headrace.cli.output import Steps, data, dry_run_option, json_option, talk
from headrace.cli.session import Session, session
from headrace.documents import plain, read_json
from headrace.domain.lineage import ModelVersion
from headrace.domain.request import TrainingRequest
from headrace.domain.rollout import Split, describe, rolled_back
from headrace.errors import Conflict, UsageError
from headrace.ports import Route
from headrace.steps.handover import PLAN, REPORT, ROLLOUT, VERDICT, Plan, Rollout

NOT_PROMOTED = 7
_SWAPS = 5


@click.command("run")
@click.argument("model")
@click.argument("overrides", nargs=-1)
@click.option("--reason", default="asked for by hand", show_default=True, help="Recorded with the run.")
@click.option("--require-promotion", is_flag=True, help="Exit 7 unless the new version ends up with all traffic.")
@dry_run_option
@json_option
def run_command(
    model: str, overrides: tuple[str, ...], reason: str, require_promotion: bool, dry_run: bool, as_json: bool
) -> int:
    """Run the pipeline of MODEL, with Hydra OVERRIDES of conf/MODEL.yaml such as as_of=2013-07-01 train.max_iter=300.

    The same inputs twice do nothing: the version, or the refusal, that answers for them is named.
    """
    here = session()
    request = TrainingRequest(here.model(model), overrides, reason)
    if dry_run:
        _explain(here, request, as_json)
        return 0
    steps = Steps()
    here.laptop.start()
    with steps.doing("platform") as say:
        here.laptop.wait(say)
    result = run_pipeline(here, request, steps)
    if as_json:
        data(result)
    return NOT_PROMOTED if require_promotion and not result["in_service"] else 0


def run_pipeline(here: Session, request: TrainingRequest, steps: Steps) -> dict[str, Any]:
    """Run the pipeline unless its inputs have been answered for; say and return how it ended."""
    from headrace import bootstrap
    from headrace.steps.plan import make_plan

    with here.running(request.model):
        plan = make_plan(here.platform, request)
        answered = _answered(here, plan, steps)
        if answered:
            talk(answered["summary"])
            return answered
        try:
            folder = bootstrap.runner(here.settings).submit(request, steps.follow)
        finally:
            steps.close()
        return _outcome(folder, request.model)


def _answered(here: Session, plan: Plan, steps: Steps) -> dict[str, Any] | None:
    """How these very inputs were answered before; a rollout that was cut off is finished first."""
    model, registry = plan.request.model, here.platform.registry
    version = registry.find(model, plan.run_key)
    if version is not None:
        outcome = registry.rollout(model, version.version)
        if outcome is None or here.platform.router.read(model) is None:
            outcome = _finish(here, plan, version, steps)
        route = here.platform.router.read(model)
        in_service = route is not None and route.split.stable == version.version
        where = "it is in service" if in_service else f"its rollout: {outcome}; headrace rollback puts it back"
        summary = f"Nothing to do: {model} v{version.version} answers for these inputs already ({where})."
        return {"model": model, "version": version.version, "in_service": in_service, "summary": summary}
    judged = registry.verdict(model, plan.run_key)
    if judged is None or judged.promote or judged.champion != registry.alias(model, "champion"):
        return None
    against = f"against v{judged.champion}" if judged.champion else "on its own"
    summary = f"Nothing to do: these inputs were judged {against} already. {judged.summary}"
    return {"model": model, "version": None, "in_service": False, "summary": summary}


def _finish(here: Session, plan: Plan, version: ModelVersion, steps: Steps) -> str:
    from headrace import running
    from headrace.steps.deploy import Clock, roll_out

    talk(f"{plan.request.model} v{version.version} is registered, but its rollout has not ended: it goes on")
    with running.heard_by(steps.follow):
        done = roll_out(here.platform, version, plan.config.rollout, Clock())
    return "finished" if done.finished else f"taken back: {done.reason}"


def _outcome(folder: Path, model: str) -> dict[str, Any]:
    from headrace.adapters.local.kfp_runner import outputs
    from headrace.domain.gate import Verdict

    verdict_file, report, rollout_file = (outputs(folder, name) for name in (VERDICT, REPORT, ROLLOUT))
    plan_file = outputs(folder, PLAN)
    verdict = read_json(Verdict, verdict_file) if verdict_file else None
    rollout = read_json(Rollout, rollout_file) if rollout_file else None
    result = {
        "model": model,
        "run_key": read_json(Plan, plan_file).run_key if plan_file else None,
        "promoted": bool(verdict and verdict.promote),
        "version": rollout.version if rollout else None,
        "in_service": bool(rollout and rollout.finished),
        "summary": verdict.summary if verdict else "no verdict",
        "report": str(report) if report else None,
    }
    colour = "green" if result["in_service"] else "yellow"
    talk(f"\n{result['summary']}", fg=colour, bold=True)
    if verdict and not verdict.promote:
        for reason in verdict.reasons:
            if not reason.passed:
                talk(f"  {reason.rule}: {reason.sentence}")
    if rollout and not rollout.finished:
        talk(f"v{rollout.version} was taken back: {rollout.reason}", fg="yellow")
    talk(f"  report     file://{report}")
    return result


def _explain(here: Session, request: TrainingRequest, as_json: bool) -> None:
    from headrace.steps.plan import make_plan

    plan = make_plan(here.platform, request)
    if as_json:
        data(plain(plan))
        return
    config = plan.config
    talk(f"{request.model}: run {plan.run_key} on dataset {plan.fingerprint.id}, code {plan.code.content[:12]}")
    talk(f"  learn from {config.train_start:%Y-%m-%d} to {config.holdout_start:%Y-%m-%d}")
    talk(f"  judge on   {config.holdout_start:%Y-%m-%d} to {config.as_of:%Y-%m-%d}")
    talk(f"  train      {', '.join(f'{name}={value}' for name, value in config.train.items())}")


@click.command("rollback")
@click.argument("model")
@click.option("--to", type=int, help="The version to go back to; the previous one when not given.")
@dry_run_option
@json_option
def rollback_command(model: str, to: int | None, dry_run: bool, as_json: bool) -> None:
    """Give all traffic of MODEL back to the version before, at once: it still runs.

    Works during a rollout too, which then ends.
    """
    here = session()
    name = here.model(model)
    if dry_run:
        route = _route(here, name)
        talk(f"{name}: {describe(route.split.weights)} would become {describe(_target(route, to).weights)}")
        return
    before, written = _go_back(here, name, to)
    talk(f"{name}: {describe(written.split.weights)}", bold=True)
    here.platform.registry.set_alias(name, "champion", written.split.stable)
    if before.split.canary is not None and before.split.canary != written.split.stable:
        here.platform.deployer.stop(name, before.split.canary)
    if as_json:
        data(plain(written))


def _route(here: Session, model: str) -> Route:
    route = here.platform.router.read(model)
    if route is None:
        raise UsageError(f"{model} is not in service, so there is nothing to go back from: headrace up {model}")
    return route


def _target(route: Route, to: int | None) -> Split:
    split = rolled_back(route.split, to)
    if split is None:
        lacks = "no version before" if to is None else "nothing to go back from"
        raise UsageError(
            f"{route.model} answers with v{route.split.stable} and has {lacks}; "
            "headrace models lists what --to can name"
        )
    return split


def _go_back(here: Session, model: str, to: int | None) -> tuple[Route, Route]:
    """Write the earlier split; no lock, so that a rollout can be cut short: its driver loses the next swap.

    Returns:
        The routes before and after.

    Raises:
        Conflict: the weights changed under our hands again and again.
    """
    platform = here.platform
    left = _SWAPS
    while True:
        before = _route(here, model)
        split = _target(before, to)
        if split.stable not in {endpoint.version for endpoint in platform.deployer.running(model) if endpoint.ready}:
            here.start_again(model, split.stable)
        try:
            return before, platform.router.write(model, split, before.generation, "rolled back by hand")
        except Conflict:
            left -= 1
            if not left:
                raise
