"""Changes of a model's traffic by a person's command."""

import fcntl
import getpass
import os
import time
from collections.abc import Callable
from typing import TypeVar

import click

from headrace.cli.output import Steps, talk
from headrace.cli.session import Session
from headrace.domain.rollout import Action, Kind, Look, RolloutState
from headrace.domain.split import describe
from headrace.errors import Conflict, Unavailable, UsageError
from headrace.ports import Route

_SWAPS = 5
# Seconds without a look after which a driver is no longer taken for one: it may wait for a slow service.
_QUIET_S = 30.0

T = TypeVar("T")


def _somebody() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


def _named(context: click.Context, option: click.Parameter, by: str) -> str:
    if not by.strip():
        raise click.BadParameter("say a name: it is kept as whose word this was")
    return by.strip()


by_option = click.option(
    "--by", default=_somebody, show_default="you", callback=_named, help="Whose word it is, for the record."
)


def route_of(here: Session, model: str) -> Route:
    """What the router holds. Raises UsageError when the model has no route."""
    route = here.platform.router.read(model)
    if route is None:
        raise UsageError(f"{model} is not in service: headrace up {model}")
    return route


def change(here: Session, model: str, write: Callable[[Route], T]) -> T:
    """Do what writes a model's route, with what is read there; again where somebody else was first.

    No lock: a rollout can be steered and cut short while it is driven, and its driver reads again.

    Raises:
        Conflict: the route changed under our hands again and again.
    """
    for _ in range(_SWAPS - 1):
        try:
            return write(route_of(here, model))
        except Conflict:
            continue
    return write(route_of(here, model))


def note(here: Session, before: Route, state: RolloutState, kind: Kind, reason: str) -> None:
    """Put a person's word into the record of a rollout, beside what its driver saw."""
    pct = before.split.weights.get(state.version, 0)
    look = Look(time.time(), state.current.describe(), describe(before.split), pct, Action(kind, reason))
    try:
        here.platform.journal.append(before.model, state.key, look)
    except Unavailable as failed:  # a full disk costs the story a line, and must not cost what follows
        talk(f"not in the record of the rollout: {failed}", fg="yellow")


def settle_by_hand(here: Session, route: Route, state: RolloutState) -> None:
    """Do what follows the end of a rollout, once its traffic has been moved.

    Raises:
        Unavailable: the registry does not answer; the message says where the traffic is, and what to do later.
    """
    # Not at the top: it reaches the page and the registry, and nothing may come before the traffic.
    from headrace import running
    from headrace.steps.settling import settle

    model = route.model
    try:
        with running.heard_by(Steps().follow):
            settle(here.platform, here.platform.registry.version(model, state.version), route, state)
    except Unavailable as failed:
        raise Unavailable(
            f"{model}: {describe(route.split)} is done, but the registry has not heard of it "
            f"({failed.__cause__ or failed}); later, headrace rollout resume {model} tells it"
        ) from failed


def holder(here: Session, model: str) -> str | None:
    """The process that runs or drives something for the model; None when there is none. Gets in nobody's way."""
    path = here.settings.home / "locks" / f"{model}.lock"
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return path.read_text().strip() or "unknown"
    return None


def driven(here: Session, route: Route, looked_at: float | None, now: float) -> str | None:
    """Who drives a model's rollout, in words; None when nobody does.

    Args:
        here: the session.
        route: with an active rollout.
        looked_at: when somebody last looked, seconds since 1970.
        now: the same for this moment.
    """
    process = holder(here, route.model)
    if process is None or route.rollout is None:
        return None
    if looked_at is None:
        return f"process {process} holds the model, and has not looked yet"
    ago_s = max(now - looked_at, 0.0)
    late = ago_s > _QUIET_S + route.rollout.policy.interval_s
    return f"process {process}, which looked {ago_s:.0f} s ago{', and may be busy otherwise' if late else ''}"
