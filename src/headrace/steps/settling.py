"""What has to happen once a rollout has ended, however it did; every part of it may be done twice."""

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout import RolloutState
from headrace.errors import Unavailable
from headrace.ports import Platform, Route
from headrace.running import progress
from headrace.steps import handover
from headrace.steps.record import keep_record

_TRIES = 100


def settle(
    platform: Platform, version: ModelVersion, route: Route | None, state: RolloutState | None, problem: str = ""
) -> handover.Rollout:
    """Make the version champion if it has all traffic, else end it; and note in the registry which.

    What the router holds is read anew: whoever settles late must not undo what was done since.

    Args:
        platform: the ports.
        version: whose rollout has ended.
        route: what the router held when it ended; None when the version was not routed at all.
        state: how its rollout ended; None, or another version's, when there was none.
        problem: why there was none.

    Raises:
        Unavailable: the registry does not answer; the message says where the traffic is.
    """
    model, number = version.model, version.version
    own = state if state is not None and state.version == number else None
    now = platform.router.read(model) or route
    if now is not None and now.split.stable == number:
        _promote(platform, version, own)
        return handover.Rollout(model, number, True, now.note)
    reason, finished = _ending(number, now, own, problem)
    if now is None or number not in now.split.versions:
        platform.deployer.stop(model, number)
    stop_unused(platform, model, number)
    with _outliving_the_registry(f"{model} v{number} was taken back ({reason})", "record it"):
        if now is not None:
            # Whose rollout finished may have been killed before it could say so.
            _move_champion(platform, model)
        ended = problem or (own is not None and own.phase != "superseded")
        # Of a version that others passed by, what is recorded already is the better reason.
        if ended or platform.registry.rollout(model, number) is None:
            keep_record(platform, version, own)
            platform.registry.record_rollout(model, number, "finished" if finished else f"taken back: {reason}")
    progress("deploy", f"v{number} was taken back: {reason}")
    return handover.Rollout(model, number, False, reason)


def _promote(platform: Platform, version: ModelVersion, own: RolloutState | None) -> None:
    registry, model, number = platform.registry, version.model, version.version
    with _outliving_the_registry(f"{model} v{number} answers all requests", "make it champion"):
        _move_champion(platform, model)
        if registry.alias(model, "challenger") == number:
            registry.clear_alias(model, "challenger")
        keep_record(platform, version, own)
        registry.record_rollout(model, number, "finished")
    stop_unused(platform, model, number)
    progress("deploy", f"v{number} answers all requests")


def _ending(number: int, now: Route | None, own: RolloutState | None, problem: str) -> tuple[str, bool]:
    """Why a version does not have all traffic, and whether it had."""
    if problem or now is None:
        return problem or "it is not routed", False
    if own is not None and own.phase != "finished":
        return own.reason, False
    passed = now.split.stable > number
    why = "which is newer" if passed else f"since {now.note}"
    reason = f"v{now.split.stable} answers all requests, {why}"
    return reason, own is not None or (passed and now.split.previous == number)


def _move_champion(platform: Platform, model: str) -> None:
    """To the version that has all traffic; once more where that changed meanwhile, so that the last one is right."""
    for _ in range(_TRIES):
        route = platform.router.read(model)
        if route is None or platform.registry.alias(model, "champion") == route.split.stable:
            return
        platform.registry.set_alias(model, "champion", route.split.stable)


@contextmanager
def _outliving_the_registry(how_it_ended: str, then: str) -> Iterator[None]:
    """Who reads that the registry does not answer must not be left to guess where the traffic is."""
    try:
        yield
    except Unavailable as failed:
        raise Unavailable(f"{how_it_ended}, but it is not recorded: {failed}; run the same again to {then}") from failed


def stop_unused(platform: Platform, model: str, number: int) -> None:
    """Stop workloads that neither have traffic nor are what a rollback goes to, once the rollout of `number` has ended.

    A version newer than all of those may be about to have its first step, and is left alone.
    """
    for endpoint in platform.deployer.running(model):
        # Anew for each: a rollback to it may have been written meanwhile.
        route = platform.router.read(model)
        if route is None:
            return
        newest = max(number, *route.split.versions)
        if endpoint.version not in route.split.versions and endpoint.version < newest:
            platform.deployer.stop(model, endpoint.version)
