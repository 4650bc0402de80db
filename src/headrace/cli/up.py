"""`headrace up` and `headrace down`."""

import json
import shlex

import click

from headrace.cli.output import Steps, dry_run_option, talk
from headrace.cli.run import run_pipeline
from headrace.cli.session import Session, session
from headrace.cli.traffic import change, holder
from headrace.domain.request import TrainingRequest
from headrace.settings import HOST


@click.command("up")
@click.argument("models", nargs=-1)
@dry_run_option
def up_command(models: tuple[str, ...], dry_run: bool) -> None:
    """Put MODELS in service on this machine (HEADRACE_MODELS, or flight_delay, when none is named).

    Starts MLflow and Traefik, brings the data in, and runs the pipeline of each model that is not in service yet.
    Returns when they answer; everything keeps running until `headrace down`.
    """
    here = session()
    chosen = [here.model(name) for name in models or here.settings.models]
    if dry_run:
        _explain(here, chosen)
        return
    steps = Steps()
    started = here.laptop.start()
    healed = [name for name in chosen if _heal(here, steps, name)]
    missing = [name for name in chosen if here.platform.router.read(name) is None]
    if started or missing or healed:
        for name in missing:
            # While MLflow starts: the data is needed first, and needs nothing of the platform.
            with steps.doing("data") as say:
                outputs = here.platform.data.bring(_stage(here, name))
                say(f"{', '.join(sorted(outputs))} as recorded by DVC")
        with steps.doing("platform") as say:
            here.laptop.wait(say)
    else:
        here.require_platform()
    for name in missing:
        talk(f"\n{name}: training the first version", bold=True)
        run_pipeline(here, TrainingRequest(name, reason="headrace up"), steps)
    if not (started or missing or healed):
        talk("Nothing to do: everything runs, and every model is in service.")
    for name in chosen:
        _summary(here, name)


def _stage(here: Session, model: str) -> str:
    from headrace.steps.plan import contract_of

    return contract_of(here.platform, model).rows.stage


def _heal(here: Session, steps: Steps, model: str) -> bool:
    """Start releases that should run and do not, and put back weights that somebody changed; whether it had to."""
    route = here.platform.router.read(model)
    if route is None:
        return False
    ready = {endpoint.version for endpoint in here.platform.deployer.running(model) if endpoint.ready}
    lacking = sorted(route.split.versions - ready)
    for version in lacking:
        with steps.doing("heal") as say:
            here.laptop.wait(lambda _: None)
            here.start_again(model, version)
            say(f"{model} v{version} is ready again")
    drifted = here.platform.router.drifted(model)
    if lacking or drifted:
        here.laptop.wait(lambda _: None)
        # Its port may be a new one: the proxy has to hear of it.
        note = f"put right: {drifted}" if drifted else "releases were started again"
        change(here, model, lambda now: here.platform.router.write(model, now.split, now.generation, note, now.rollout))
    if drifted:
        talk(f"put right: {drifted}", fg="yellow")
    return bool(lacking or drifted)


def _explain(here: Session, models: list[str]) -> None:
    states = {state.name: state.state for state in here.processes.states()}
    for name in here.laptop.health():
        talk(f"{name}: {'runs' if states.get(name) == 'running' else 'would be started'}")
    for name in models:
        route = here.platform.router.read(name)
        text = "would be trained, judged and deployed" if route is None else f"in service, v{route.split.stable}"
        talk(f"{name}: {text}")


def _summary(here: Session, model: str) -> None:
    """What is where; the curl line works when pasted."""
    from headrace.documents import plain
    from headrace.steps.plan import contract_of

    route = here.platform.router.read(model)
    if route is None:
        talk(f"\n{model} is not in service: the gate did not promote its first version.", bold=True)
        talk(f"  why        file://{here.report(model)}")
        talk(f"  next       edit models/{model}/ or conf/{model}.yaml, then: headrace run {model}")
        return
    url = f"{here.platform.router.url(model)}/v1/models/{model}/predict"
    body = json.dumps({"rows": [plain(contract_of(here.platform, model))["example"]]})
    talk(f"\n{model} v{route.split.stable} is in service.", bold=True)
    talk(f"  inference  {url}")
    talk(f"  try        curl -s {url} -H 'content-type: application/json' -d {shlex.quote(body)}")
    talk(f"  MLflow     {here.settings.tracking_uri}")
    report = _report(here, model)
    if report:
        talk(f"  report     {report}")
    if route.rollout is not None and route.rollout.active:
        what = f"status {model}" if holder(here, model) else f"resume {model}; nobody drives it"
        talk(f"  rollout    v{route.rollout.version} is being tried: headrace rollout {what}")
    talk(f"  next       headrace status  ·  headrace run {model} as_of=DATE  ·  headrace down")


def _report(here: Session, model: str) -> str:
    return f"file://{here.report(model)}" if here.last_run(model) else ""


@click.command("down")
@dry_run_option
def down_command(dry_run: bool) -> None:
    """Stop everything that `up` started, also after a crash. What is stored stays; `up` brings it back."""
    here = session()
    running = [state for state in here.processes.states() if state.pid]
    if dry_run:
        talk(f"would stop: {', '.join(state.name for state in running) or 'nothing, for nothing runs'}")
        return
    here.processes.stop_all()
    talk(
        f"stopped: {', '.join(state.name for state in running)}"
        if running
        else f"nothing runs on {HOST} for {here.settings.root}"
    )
