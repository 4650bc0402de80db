"""`headrace status`."""

from typing import Any

import click

from headrace import configuration
from headrace.cli.output import data, json_option, table
from headrace.cli.session import Session, session
from headrace.documents import read_json
from headrace.domain.split import describe
from headrace.ports import Route
from headrace.steps.handover import VERDICT


@click.command("status")
@json_option
def status_command(as_json: bool) -> None:
    """What runs, which version answers with which share, and the last verdict of each model."""
    here = session()
    seen = {
        "processes": [] if here.in_cluster else _processes(here),
        "models": [_model(here, name) for name in configuration.models(here.settings.root)],
    }
    if as_json:
        data(seen)
        return
    if not here.in_cluster:
        _show_processes(seen["processes"])
    for model in seen["models"]:
        click.echo(click.style(model["model"], bold=True))
        for name in ("traffic", "versions", "drift", "rollout", "note", "verdict"):
            if model[name]:
                click.echo(f"  {name:<9} {model[name]}")


def _show_processes(processes: list[dict[str, Any]]) -> None:
    rows = [(p["name"], p["state"], p["pid"], _ago(p["uptime_s"]), p["why"].split("\n")[0]) for p in processes]
    table(("PROCESS", "STATE", "PID", "UP", ""), rows)
    click.echo()


def _processes(here: Session) -> list[dict[str, Any]]:
    return [
        {"name": s.name, "state": s.state, "pid": s.pid, "uptime_s": s.uptime_s, "why": s.why}
        for s in here.processes.states()
    ]


def _model(here: Session, name: str) -> dict[str, Any]:
    route = here.platform.router.read(name)
    endpoints = here.platform.deployer.running(name)
    folder = here.last_run(name)
    return {
        "model": name,
        "traffic": describe(route.split) if route else "not in service",
        "weights": route.split.weights if route else {},
        "champion": route.split.stable if route else None,
        "versions": ", ".join(
            f"v{e.version} {_role(route, e.version)}{'' if e.ready else ', NOT READY'}" for e in endpoints
        ),
        "endpoints": {e.version: {"url": e.url, "ready": e.ready} for e in endpoints},
        "drift": here.platform.router.drifted(name) or "" if route else "",
        "rollout": _rollout(route) if route else "",
        "note": route.note if route else "",
        "verdict": _verdict(folder) if folder else "",
    }


def _rollout(route: Route) -> str:
    state = route.rollout
    if state is None:
        return ""
    where = f"at {state.current.describe()}" if state.active else state.phase
    return f"v{state.version} {where}: {state.reason}"


def _role(route: Route | None, version: int) -> str:
    if route is None:
        return "unrouted"
    roles = {route.split.previous: "to go back to", route.split.shadow: "shadow"}
    roles |= {route.split.canary: "canary", route.split.stable: "champion"}
    return roles.get(version, "unrouted")


def _verdict(folder: Any) -> str:
    from headrace.adapters.local.kfp_runner import outputs
    from headrace.domain.gate import Verdict

    found = outputs(folder, VERDICT)
    return read_json(Verdict, found).summary if found else ""


def _ago(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
