"""`headrace schedule`."""

from typing import Any

import click

from headrace.cli.output import data, dry_run_option, json_option, table, talk
from headrace.cli.session import session
from headrace.documents import plain
from headrace.domain.request import TrainingRequest


@click.group("schedule")
def schedule_command() -> None:
    """Run pipelines by the clock; needs Kubeflow Pipelines (`headrace --context cluster`)."""


@schedule_command.command("set")
@click.argument("model")
@click.argument("cron")
@click.argument("overrides", nargs=-1)
@click.option("--reason", default="by schedule", show_default=True, help="Recorded with every run.")
@dry_run_option
def set_command(model: str, cron: str, overrides: tuple[str, ...], reason: str, dry_run: bool) -> None:
    """Run the pipeline of MODEL by CRON: seconds first, six fields, UTC; "0 30 3 * * *" is half past three every night.

    A model has one schedule: setting another replaces it. One run at a time; missed runs are not made up for.
    """
    from headrace import bootstrap

    here = session()
    request = TrainingRequest(here.model(model), overrides, reason)
    if dry_run:
        talk(f"{request.model} would run at {cron!r} (UTC)")
        return
    done = bootstrap.runner(here.settings).schedule(request, cron)
    talk(f"{request.model} runs at {done.cron!r} (UTC)", bold=True)


@schedule_command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the schedules."""
    from headrace import bootstrap

    found = bootstrap.runner(session().settings).schedules()
    if as_json:
        data([plain(one) for one in found])
        return
    rows: list[tuple[Any, ...]] = [
        (one.request.model, one.cron, " ".join(one.request.overrides), "" if one.active else "paused") for one in found
    ]
    table(("MODEL", "CRON", "OVERRIDES", "STATE"), rows)


@schedule_command.command("remove")
@click.argument("model")
@dry_run_option
def remove_command(model: str, dry_run: bool) -> None:
    """Forget the schedule of MODEL; a run that has begun goes on."""
    from headrace import bootstrap

    here = session()
    # A model that is gone from the project may still be scheduled.
    if dry_run:
        talk(f"the schedule of {model} would be removed")
        return
    there_was = bootstrap.runner(here.settings).unschedule(model)
    talk(f"{model} has no schedule any more" if there_was else f"{model} had no schedule")
