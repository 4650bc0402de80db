"""A registered version into service, step by step, and back at the first evidence against it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from headrace.documents import read_json, write_json
from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout_policy import RolloutPolicy
from headrace.domain.split import Split
from headrace.errors import Conflict
from headrace.ports import Platform, Route
from headrace.running import progress
from headrace.steps import handover
from headrace.steps.driver import Driver, begin, give_way
from headrace.steps.settling import settle
from headrace.steps.watching import Clock, golden_rows


def deploy(platform: Platform, plan_in: Path, version: int, out: Path, clock: Clock | None = None) -> bool:
    """Roll a version out by the plan's policy. Idempotent; a rollout that was cut off goes on where it was.

    Args:
        platform: the ports.
        plan_in: folder of `prepare`'s plan.
        version: a registered version of the plan's model.
        out: folder for `rollout.json`.
        clock: the time, and how to wait.

    Returns:
        Whether it has all traffic now; False when it was taken back.

    Raises:
        Unavailable: the version does not start, or the proxy does not answer; the stable version serves as before.
        Conflict: a newer version is being tried.
    """
    plan = read_json(handover.Plan, plan_in / handover.PLAN)
    chosen = platform.registry.version(plan.request.model, version)
    result = roll_out(platform, chosen, plan.config.rollout, clock or Clock())
    write_json(out / handover.ROLLOUT, result)
    platform.registry.log_files(chosen.lineage.experiment_run, out / handover.ROLLOUT, "rollout")
    return result.finished


def roll_out(platform: Platform, version: ModelVersion, policy: RolloutPolicy, clock: Clock) -> handover.Rollout:
    """Start the version, move traffic to it on evidence, and make it champion once it has all of it.

    A version that was taken back or rolled back is not tried again, nor one older than the one that has all traffic.
    """
    model, number = version.model, version.version
    route = platform.router.read(model)
    if route is not None and route.split.stable != number:
        if route.split.stable > number or _ended(route, number):
            return settle(platform, version, route, route.rollout)
        give_way(route, number)
    directory = platform.model_directory(version)
    platform.deployer.start(version, directory, policy.ready_timeout_s)
    progress("deploy", f"v{number} is ready")
    if platform.router.read(model) is None:
        problem = _first(platform, version, policy, golden_rows(directory))
        if problem is not None:
            return settle(platform, version, None, None, problem)
    try:
        route = begin(platform, model, number, directory, policy, clock)
    except Conflict:
        _stop_unrouted(platform, model, number)
        raise
    state = route.rollout
    if state is not None and state.active and state.version == number:
        route, state = Driver(platform, model, directory, clock).drive(route)
    return settle(platform, version, route, state)


def _stop_unrouted(platform: Platform, model: str, number: int) -> None:
    """Stop a version that was started for nothing."""
    route = platform.router.read(model)
    if route is None or number not in route.split.versions:
        platform.deployer.stop(model, number)


def _ended(route: Route, number: int) -> bool:
    """Whether the last rollout was this version's, and is over: who runs it once more does not begin another."""
    return route.rollout is not None and route.rollout.version == number and not route.rollout.active


def _first(
    platform: Platform, version: ModelVersion, policy: RolloutPolicy, rows: Sequence[Mapping[str, Any]]
) -> str | None:
    """A model's first version has nobody to be compared with: it has to answer the rows of its holdout.

    Returns:
        What is wrong with it; None when the model has a route now, this version's or that of one that was faster.
    """
    model, number = version.model, version.version
    problem = _alone(platform, version, policy, rows)
    if problem is None:
        with suppress(Conflict):
            platform.router.write(model, Split(number, sticky=policy.sticky), 0, f"v{number} is the first version")
    # One that was faster may have stopped this one as too old: then that is what is wrong with it.
    return problem if platform.router.read(model) is None else None


def _alone(
    platform: Platform, version: ModelVersion, policy: RolloutPolicy, rows: Sequence[Mapping[str, Any]]
) -> str | None:
    """What is wrong with a version that is not routed yet; None when it may be."""
    running = {one.version: one.url for one in platform.deployer.running(version.model)}
    url = running.get(version.version)
    if url is None:
        return "it is not running"
    asked = policy.steps[0].min_requests
    bad = sum(
        platform.prober.send(url, version.model, [rows[n % len(rows)]]) not in range(200, 300) for n in range(asked)
    )
    if bad > policy.limits.errors * asked:
        return f"{bad} of {asked} rows of its holdout got no prediction, more than {policy.limits.errors:.1%} allowed"
    return None
