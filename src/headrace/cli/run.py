"""`headrace run` and `headrace rollback`."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from headrace.cli.output import Steps, data, dry_run_option, json_option, talk
from headrace.cli.session import Session, session
from headrace.cli.traffic import by_option, change, note, route_of, settle_by_hand
from headrace.documents import plain, read_json
from headrace.domain.lineage import ModelVersion
from headrace.domain.request import TrainingRequest
from headrace.domain.rollout import ended
from headrace.domain.split import Split, describe, rolled_back
from headrace.errors import Unavailable, UsageError
from headrace.ports import Route
from headrace.steps.handover import PLAN, REPORT, ROLLOUT, VERDICT, Plan, Rollout

NOT_PROMOTED = 7


@click.command("run")
@click.argument("model")
@click.argument("overrides", nargs=-1)
@click.option("--reason", default="asked for by hand", show_default=True, help="Recorded with the run.")
@click.option("--approve", is_flag=True, help="Before 100 %, wait for headrace rollout promote MODEL --by NAME.")
@click.option("--require-promotion", is_flag=True, help="Exit 7 unless the new version ends up with all traffic.")
@dry_run_option
@json_option
def run_command(
    model: str,
    overrides: tuple[str, ...],
    reason: str,
    approve: bool,
    require_promotion: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run the pipeline of MODEL, with Hydra OVERRIDES of conf/MODEL.yaml such as as_of=2013-07-01 train.max_iter=300.

    The same inputs twice do nothing: the version, or the refusal, that answers for them is named.
    """
    here = session()
    if approve:
        overrides = (*overrides, "rollout.approval=true")
    request = TrainingRequest(here.model(model), overrides, reason)
    if dry_run:
        _explain(here, request, as_json)
        return 0
    steps = Steps()
    if not here.in_cluster:
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
        put_back = f"headrace rollback {model} --to {version.version} gives it all traffic"
        where = "it is in service" if in_service else f"its rollout: {outcome}; {put_back}"
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
    from headrace.steps.deploy import roll_out
    from headrace.steps.watching import Clock

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
        talk(f"  why        headrace rollout explain {model}")
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
@by_option
@dry_run_option
@json_option
def rollback_command(model: str, to: int | None, by: str, dry_run: bool, as_json: bool) -> None:
    """Give all traffic of MODEL back to the version before, at once: it still runs.

    During a rollout that is the version beside the new one, and the rollout ends.
    """
    began = time.perf_counter()
    here = session()
    name = here.model(model)
    if dry_run:
        route = route_of(here, name)
        talk(f"{name}: {describe(route.split)} would become {describe(_target(route, to))}")
        return
    reason = f"rolled back by hand ({by})"
    before, written = change(here, name, partial(_write_back, here, to, reason))
    took = "already" if written is before else f"switched in {time.perf_counter() - began:.2f} s"
    talk(f"{name}: {describe(written.split)}, {took}", bold=True)
    if before.rollout is not None and before.rollout.active and written.rollout is not None:
        note(here, before, before.rollout, "take back", reason)
        settle_by_hand(here, written, written.rollout)
    _move_champion(here, name, written.split.stable)
    if as_json:
        data(plain(written))


def _move_champion(here: Session, model: str, version: int) -> None:
    try:
        here.platform.registry.set_alias(model, "champion", version)
    except Unavailable as failed:
        raise Unavailable(
            f"v{version} of {model} has the traffic, but is not champion yet ({failed}); "
            f"later, headrace rollback {model} --to {version} makes it so"
        ) from failed


def _target(route: Route, to: int | None) -> Split:
    name, split = route.model, route.split
    if to is not None and to == split.tried:
        raise UsageError(f"v{to} is being tried, so it is nothing to go back to: headrace rollout promote {name}")
    if to == split.stable and split.tried is None:
        return split  # what is there already; the registry may not have heard of it
    back = rolled_back(split, to)
    if back is None:
        raise UsageError(
            f"{name} answers with v{split.stable} and has no version before; "
            f"headrace models {name} lists what --to can name"
        )
    return back


def _write_back(here: Session, to: int | None, reason: str, before: Route) -> tuple[Route, Route]:
    """Write the earlier split, with the rollout that it ends; the routes before and after."""
    split = _target(before, to)
    if split == before.split:
        return before, before
    running = {endpoint.version for endpoint in here.platform.deployer.running(before.model) if endpoint.ready}
    if split.stable not in running:
        here.start_again(before.model, split.stable)
    state = before.rollout
    if state is not None and state.active:
        state = ended(state, "taken back", reason)
    return before, here.platform.router.write(before.model, split, before.generation, reason, state)
