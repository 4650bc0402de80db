"""`headrace rollout`: what a new version's rollout sees and does, and a person's word in it."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from headrace.cli.output import Steps, data, dry_run_option, json_option, table, talk
from headrace.cli.session import Session, session
from headrace.cli.traffic import by_option, change, driven, holder, note, route_of, settle_by_hand
from headrace.documents import plain
from headrace.domain import rollout as rollouts
from headrace.domain.rollout import Kind, Look, RolloutState
from headrace.domain.rollout_story import answered, headline, sentences
from headrace.domain.split import describe
from headrace.errors import Conflict, Unavailable, UsageError
from headrace.ports import Route

_model = click.argument("model")


@click.group("rollout")
def rollout_command() -> None:
    """See and steer the rollout of a new version."""


@rollout_command.command("status", short_help="Where it is, or how the last one ended")
@_model
@json_option
def status(model: str, as_json: bool) -> None:
    """Where the rollout of MODEL is, or how the last one ended."""
    here = session()
    route = route_of(here, here.model(model))
    state = route.rollout
    looks = [] if state is None else here.platform.journal.looks(route.model, state.key)
    now = time.time()
    looked_at = looks[-1].at if looks else None
    driver = driven(here, route, looked_at, now) if state is not None and state.active else None
    if as_json:
        seen = {"rollout": plain(state) if state else None, "look": plain(looks[-1]) if looks else None}
        data({"model": route.model, "traffic": describe(route.split), "driver": driver, **seen})
    elif state is None:
        click.echo(_none(route))
    else:
        table(("ROLLOUT", route.model), _rows(route, state, looks, driver, now))


def _rows(
    route: Route, state: RolloutState, looks: Sequence[Look], driver: str | None, now: float
) -> list[tuple[Any, ...]]:
    steps = " → ".join(
        f"[{one.describe()}]" if state.active and at == state.step else one.describe()
        for at, one in enumerate(state.policy.steps)
    )
    requests = next((look.action.requests for look in reversed(looks) if any(look.action.requests)), None)
    rows: list[tuple[Any, ...]] = [
        ("version", f"v{state.version}, {state.phase}"),
        ("now", headline(state, now)),
        ("why", looks[-1].action.reason if looks and state.active else state.reason),
        ("steps", f"{steps} → 100 %"),
        ("traffic", describe(route.split)),
        ("began", _moment(state.began_at)),
        ("answers", f"{requests[0]} beside {requests[1]} in this window" if requests else "none yet"),
        ("with traffic", f"{answered(looks)} answers of v{state.version}, probes included"),
    ]
    if state.active:
        rows.append(("driver", driver or f"nobody: headrace rollout resume {route.model}"))
        rows.append(("next", _next(route.model, state)))
    return rows


def _next(model: str, state: RolloutState) -> str:
    verbs = [] if state.phase == "waiting" else ["resume" if state.paused_by else "pause"]
    return f"headrace rollout {' | '.join(['explain', *verbs, 'promote', 'abort'])} {model}"


@rollout_command.command("start", short_help="Roll a registered version out")
@_model
@click.argument("overrides", nargs=-1)
@click.option("--version", "number", type=int, required=True, help="A version that headrace models lists.")
def start(model: str, overrides: tuple[str, ...], number: int) -> None:
    """Roll a registered version of MODEL out, and see it through.

    OVERRIDES are Hydra's, of the rollout in conf/MODEL.yaml, such as rollout.interval_s=5. A version that was taken
    back or rolled back before is not tried again.
    """
    from headrace import configuration, running
    from headrace.domain.request import TrainingRequest
    from headrace.steps.deploy import roll_out
    from headrace.steps.watching import Clock

    here = session()
    name = here.model(model)
    policy = configuration.compose(here.settings.root, TrainingRequest(name, overrides)).rollout
    here.require_platform()
    version = here.platform.registry.version(name, number)
    with here.running(name), running.heard_by(Steps().follow):
        done = roll_out(here.platform, version, policy, Clock())
    if done.finished:
        talk(f"v{number} of {name} has all traffic", fg="green", bold=True)
    else:
        talk(f"v{number} of {name} was taken back: {done.reason}", fg="yellow", bold=True)


@rollout_command.command("explain", short_help="Why it holds, moved or went back, in sentences and numbers")
@_model
@json_option
def explain(model: str, as_json: bool) -> None:
    """Why the rollout of MODEL holds, moved or went back, in sentences and numbers; as JSON, all its looks."""
    here = session()
    route = route_of(here, here.model(model))
    state = route.rollout
    looks = [] if state is None else here.platform.journal.looks(route.model, state.key)
    if as_json:
        data([plain(look) for look in looks])
        return
    if state is None:
        click.echo(_none(route))
        return
    for sentence in sentences(state, looks, time.time()):
        click.echo(sentence)
    for sentence in _around(here, route, state, looks):
        click.echo(sentence)


def _around(here: Session, route: Route, state: RolloutState, looks: Sequence[Look]) -> list[str]:
    """What the rollout itself doesn't know: who drives it, and what came after it."""
    told = ["", f"Traffic now: {describe(route.split)}."]
    if state.active and driven(here, route, looks[-1].at if looks else None, time.time()) is None:
        told.append(f"Nobody drives it, and so nobody would take it back: headrace rollout resume {route.model}")
    if not state.active and (state.phase == "finished") != (route.split.stable == state.version):
        told.append(f"That was changed after the rollout: {route.note}.")
    if looks:
        told.append(f"Its page, with pictures: headrace open rollout {route.model}")
    return told


@rollout_command.command("pause", short_help="Hold its step; evidence still takes it back")
@_model
@by_option
@dry_run_option
def pause(model: str, by: str, dry_run: bool) -> None:
    """Hold the step that MODEL's rollout is at. Evidence against the version still takes it back."""
    here = session()
    route, state = _active(here, here.model(model))
    if state.phase == "waiting":
        raise UsageError(f"v{state.version} waits for approval anyway: headrace rollout promote | abort {route.model}")
    if state.paused_by:
        talk(f"{route.model} v{state.version} is paused by {state.paused_by} already")
        return
    now = time.time()
    _steer(here, route, f"paused by {by}", "hold", lambda found: rollouts.paused(found, now, by), dry_run)


@rollout_command.command("resume", short_help="Go on, after a pause or a driver that has ended")
@_model
@by_option
@dry_run_option
def resume(model: str, by: str, dry_run: bool) -> None:
    """Go on with MODEL's rollout: after a pause, and where nobody drives it any more; then this command does.

    A version that was taken back is tried once more, from its first step.
    """
    here = session()
    route, state = _known(here, here.model(model))
    if not state.active:
        _after_the_end(here, route, state, dry_run)
        return
    process = holder(here, route.model)
    if state.paused_by or (process is None and state.phase == "running"):
        # The step's time begins anew: nobody looked while it passed.
        now = time.time()
        _steer(here, route, f"resumed by {by}", "hold", lambda found: rollouts.resumed(found, now, by), dry_run)
    if process is not None:
        talk(f"{route.model}: process {process} drives its rollout, which goes on")
    elif dry_run:
        talk(f"{route.model}: this command would drive its rollout to its end")
    else:
        with here.running(route.model):
            _drive(here, *_active(here, route.model))


def _after_the_end(here: Session, route: Route, state: RolloutState, dry_run: bool) -> None:
    """Tell the registry how a rollout ended, if it did not answer then; else try once more what was taken back."""
    name = f"{route.model} v{state.version}"
    if here.platform.registry.rollout(route.model, state.version) is None:
        if not dry_run:
            settle_by_hand(here, route, state)
        talk(f"{name}: the registry {'would know' if dry_run else 'knows now'} that it is {state.phase}")
        return
    if state.phase != "taken back" or route.split.stable > state.version:
        raise _over(route, state)
    with here.running(route.model):
        talk(f"{name} {'would be' if dry_run else 'is'} tried once more, from its first step; it was {_ended(state)}")
        if not dry_run:
            _drive(here, route, state)


@rollout_command.command("abort", short_help="Take the new version back, at once")
@_model
@by_option
@dry_run_option
def abort(model: str, by: str, dry_run: bool) -> None:
    """Take MODEL's new version back: the stable one answers everything, at once."""
    here = session()
    reason = f"aborted by {by}"
    route, _ = _active(here, here.model(model))
    _steer(here, route, reason, "take back", lambda state: rollouts.ended(state, "taken back", reason), dry_run)


@rollout_command.command("promote", short_help="Give the new version all traffic: approve, or skip steps")
@_model
@by_option
@dry_run_option
def promote(model: str, by: str, dry_run: bool) -> None:
    """Give MODEL's new version all traffic, at once: approve of it, or skip the steps that are left."""
    here = session()
    route, state = _active(here, here.model(model))
    ready = {one.version for one in here.platform.deployer.running(route.model) if one.ready}
    if state.version not in ready:
        raise Unavailable(f"v{state.version} of {route.model} is not ready, nothing was changed: headrace logs has why")
    _steer(here, route, f"promoted by {by}", "advance", lambda found: rollouts.approved(found, by), dry_run)


def _steer(
    here: Session, route: Route, said: str, kind: Kind, to: Callable[[RolloutState], RolloutState], dry_run: bool
) -> None:
    """Change an active rollout, and settle what ends with that."""
    name, state = route.model, route.rollout
    assert state is not None  # noqa: S101 - every caller has looked
    if dry_run:
        after = describe(rollouts.split_of(to(state), route.split))
        talk(f"{name} v{state.version} would be {said}: {describe(route.split)} would become {after}")
        return

    def step(now: Route) -> tuple[Route, Route] | None:
        if now.rollout is None or now.rollout.key != state.key or not now.rollout.active:
            return None
        after = to(now.rollout)
        split = rollouts.split_of(after, now.split)
        return now, here.platform.router.write(name, split, now.generation, said, after)

    written = change(here, name, step)
    if written is None:
        raise Conflict(f"the rollout of {name} has ended meanwhile: headrace rollout explain {name}")
    before, now = written
    note(here, before, state, kind, said)
    talk(f"{name} v{state.version} is {said}: {describe(now.split)}", bold=True)
    if now.rollout is not None and not now.rollout.active:
        settle_by_hand(here, now, now.rollout)


def _drive(here: Session, route: Route, state: RolloutState) -> None:
    """Drive a rollout to its end; one that has ended from its beginning, which no run of a pipeline does."""
    from headrace import running
    from headrace.steps.deploy import roll_out
    from headrace.steps.watching import Clock

    here.require_platform()
    platform, model = here.platform, route.model
    version = platform.registry.version(model, state.version)
    with running.heard_by(Steps().follow):
        if not state.active:
            platform.deployer.start(version, platform.model_directory(version), state.policy.ready_timeout_s)
            # Only a version whose last rollout is not in the record is tried. Its looks and its page stay.
            platform.router.write(model, route.split, route.generation, f"v{version.version} is tried once more", None)
        roll_out(platform, version, state.policy, Clock())


def _known(here: Session, model: str) -> tuple[Route, RolloutState]:
    route = route_of(here, model)
    if route.rollout is None:
        raise UsageError(_none(route))
    return route, route.rollout


def _active(here: Session, model: str) -> tuple[Route, RolloutState]:
    route, state = _known(here, model)
    if not state.active:
        raise _over(route, state)
    return route, state


def _none(route: Route) -> str:
    return (
        f"{route.model} has had no rollout yet: v{route.split.stable} answers everything, "
        f"and the next version that headrace run {route.model} promotes is rolled out beside it"
    )


def _over(route: Route, state: RolloutState) -> UsageError:
    return UsageError(
        f"no rollout of {route.model} is under way; the last one, of v{state.version}, is {_ended(state)}"
    )


def _ended(state: RolloutState) -> str:
    return f"{state.phase}: {state.reason}"


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
