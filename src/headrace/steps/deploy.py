"""A registered version into service, step by step, and back at the first evidence against it."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.documents import read_json, write_json
from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout import (
    Observation,
    RolloutPolicy,
    RolloutStep,
    Split,
    describe,
    finished,
    next_action,
)
from headrace.errors import HeadraceError, Unavailable
from headrace.ports import Counts, ModelRegistry, Platform, Route
from headrace.running import progress
from headrace.steps import handover

_LOOK_EVERY_S = 0.25


@dataclass(frozen=True)
class Clock:
    """Time, given so that tests need not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def deploy(platform: Platform, plan_in: Path, version: int, out: Path, clock: Clock | None = None) -> bool:
    """Roll a version out by the plan's policy. Idempotent; a rollout that was cut off goes on where it was.

    Args:
        platform: the ports.
        plan_in: folder of `prepare`'s plan.
        version: a registered version of the plan's model.
        out: folder for `rollout.json`.
        clock: monotonic seconds, and how to wait.

    Returns:
        Whether it has all traffic now; False when it was taken back.

    Raises:
        Unavailable: the version does not start, or the proxy does not answer; the stable version serves as before.
        Conflict: somebody else changed the weights meanwhile.
    """
    plan = read_json(handover.Plan, plan_in / handover.PLAN)
    chosen = platform.registry.version(plan.request.model, version)
    result = roll_out(platform, chosen, plan.config.rollout, clock or Clock())
    write_json(out / handover.ROLLOUT, result)
    return result.finished


def roll_out(platform: Platform, version: ModelVersion, policy: RolloutPolicy, clock: Clock) -> handover.Rollout:
    """Start the version, move traffic to it, and make it champion once it has all of it."""
    model, number = version.model, version.version
    directory = platform.model_directory(version)
    platform.deployer.start(version, directory, policy.ready_timeout_s)
    progress("deploy", f"v{number} is ready")
    route = platform.router.read(model)
    rollout = _Rollout(platform, version, policy, clock, json.loads((directory / "golden.json").read_text())["rows"])
    if route is None:
        problem = rollout.try_alone()
        if problem is None:
            route = platform.router.write(model, Split(stable=number), 0, f"v{number} is the first version")
    else:
        problem, route = rollout.shift(route)
    if problem is not None:
        platform.deployer.stop(model, number)
        with _outliving_the_registry(f"{model} v{number} was taken back ({problem})", "try it once more"):
            platform.registry.record_rollout(model, number, f"taken back: {problem}")
        progress("deploy", f"v{number} was taken back: {problem}")
        return handover.Rollout(model, number, False, problem)
    with _outliving_the_registry(f"{model} v{number} answers all requests", "make it champion"):
        _promote(platform.registry, model, number)
    assert route is not None  # noqa: S101 - either it was there, or it has just been written
    stop_unused(platform, route)
    progress("deploy", f"v{number} answers all requests")
    return handover.Rollout(model, number, True, route.note)


def _promote(registry: ModelRegistry, model: str, number: int) -> None:
    registry.set_alias(model, "champion", number)
    if registry.alias(model, "challenger") == number:
        registry.clear_alias(model, "challenger")
    registry.record_rollout(model, number, "finished")


@contextmanager
def _outliving_the_registry(how_it_ended: str, then: str) -> Iterator[None]:
    """Who reads that the registry does not answer must not be left to guess where the traffic is."""
    try:
        yield
    except Unavailable as failed:
        raise Unavailable(f"{how_it_ended}, but it is not recorded: {failed}; run the same again to {then}") from failed


def stop_unused(platform: Platform, route: Route) -> None:
    """Stop workloads that neither have traffic nor are what a rollback goes to."""
    kept = {route.split.stable, route.split.canary, route.split.previous}
    for endpoint in platform.deployer.running(route.model):
        if endpoint.version not in kept:
            platform.deployer.stop(route.model, endpoint.version)


@dataclass(frozen=True)
class _Rollout:
    platform: Platform
    version: ModelVersion
    policy: RolloutPolicy
    clock: Clock
    probes: Sequence[Mapping[str, Any]]

    def try_alone(self) -> str | None:
        """Probe a version that is not routed yet; what is wrong with it, or None."""
        running = {e.version: e.url for e in self.platform.deployer.running(self.version.model)}
        url = running.get(self.version.version)
        return self._watch(RolloutStep(100, 0), url, None) if url else "it is not running"

    def shift(self, route: Route) -> tuple[str | None, Route]:
        """Move the weights up the steps; back to what was there before when the evidence is against it."""
        model, number = self.version.model, self.version.version
        if route.split.stable == number:
            return None, route
        before = Split(stable=route.split.stable, previous=route.split.previous)
        reached = route.split.canary_pct if route.split.canary == number else 0
        for step in self.policy.steps:
            if step.weight_pct < reached or step.weight_pct == 100:
                continue
            split = Split(before.stable, number, step.weight_pct, before.previous)
            if split != route.split:
                route = self.platform.router.write(model, split, route.generation, f"v{number} at {step.weight_pct} %")
            progress("deploy", describe(split.weights))
            problem = self._guarded(step)
            if problem is not None:
                return problem, self.platform.router.write(model, before, route.generation, problem)
        note = f"v{number} has earned all traffic"
        return None, self.platform.router.write(model, finished(before, number), route.generation, note)

    def _guarded(self, step: RolloutStep) -> str | None:
        """An error of ours must not leave a half-tried version with traffic: it counts against it."""
        try:
            return self._watch(step, self.platform.router.url(self.version.model), self.version.version)
        except HeadraceError as failed:
            return f"it could not be watched: {failed}"

    def _watch(self, step: RolloutStep, url: str, pinned: int | None) -> str | None:
        """Hold a step until the evidence decides; why to go back, or None to go on."""
        began, before, sent = self.clock.now(), self._counts(), 0
        while True:
            seen = self._observe(before, self.clock.now() - began)
            action = next_action(self.policy, step, seen)
            match action.kind:
                case "abort":
                    return action.reason
                case "advance":
                    progress("deploy", action.reason)
                    return None
            if sent >= self.policy.probe_count:
                self.clock.sleep(_LOOK_EVERY_S)
            if seen.answers < self.policy.probe_count:
                self.platform.prober.send(url, self.version.model, [self.probes[sent % len(self.probes)]], pinned)
                sent += 1

    def _counts(self) -> Counts | None:
        return self.platform.metrics.counts(self.version.model).get(self.version.version)

    def _observe(self, before: Counts | None, elapsed_s: float) -> Observation:
        """What came since `before`. A process that restarted counts from zero: that is no evidence, and not alive."""
        running = self.platform.deployer.running(self.version.model)
        ready = any(e.ready for e in running if e.version == self.version.version)
        now = self._counts()
        if now is None or before is None:
            return Observation(0, 0, elapsed_s, None if ready else False)
        answers, errors = now.answers - before.answers, now.errors - before.errors
        restarted = answers < 0 or errors < 0
        return Observation(max(answers, 0), max(errors, 0), elapsed_s, ready and not restarted)
