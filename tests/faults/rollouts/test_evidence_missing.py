"""Faults 10 and 16: a source of metrics that says nothing promotes nobody; of many deploys at once one is left."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.domain.evidence import Counts
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.errors import Conflict, Unavailable
from headrace.ports import MetricsSource
from tests.contract.traffic import Traffic
from tests.faults.house import MODEL
from tests.faults.rollouts import answering
from tests.faults.rollouts.platform import Rollouts, back_to

POLICY = RolloutPolicy(steps=(RolloutStep(20, min_requests=10, hold_s=0, timeout_s=3),), interval_s=0.25)
AT_ONCE = 5

Say = Callable[[Mapping[int, Counts]], Mapping[int, Counts]]


class Source:
    """A metrics source that says something else than the services."""

    def __init__(self, real: MetricsSource, say: Say) -> None:
        self._real, self._say = real, say

    def counts(self, model: str) -> Mapping[int, Counts]:
        return self._say(self._real.counts(model))

    def recent(self, model: str) -> Mapping[int, Any]:
        return self._real.recent(model)


def down(counts: Mapping[int, Counts]) -> Mapping[int, Counts]:
    raise Unavailable("the source of metrics does not answer")


def empty(counts: Mapping[int, Counts]) -> Mapping[int, Counts]:
    return {}


def without_traffic(counts: Mapping[int, Counts]) -> Mapping[int, Counts]:
    return {version: Counts(0, 0, started_at=1.0) for version in counts}


def reset() -> Say:
    """Every look finds other counters than the last."""
    starts: Iterator[int] = iter(range(1, 1_000_000))
    return lambda counts: {version: replace(one, started_at=float(next(starts))) for version, one in counts.items()}


@pytest.mark.parametrize("say", [down, empty, without_traffic, reset()], ids=["down", "empty", "no traffic", "reset"])
def test_version_without_evidence_is_held_and_taken_back_at_the_deadline(
    rollouts: Rollouts, tmp_path: Path, say: Say
) -> None:
    before = rollouts.route().split
    version = rollouts.register()
    platform = replace(rollouts.platform, metrics=Source(rollouts.platform.metrics, say))
    with Traffic(rollouts.house.url, MODEL, body=rollouts.house.body) as traffic:
        traffic.wait_for(20)
        done = rollouts.roll_out(version, POLICY, platform)
        traffic.wait_for(sum(traffic.answered.values()) + 20)
    print(f"{done.reason}; lost {len(traffic.lost)} of {traffic.total}")
    assert not done.finished
    assert "after 3 s" in done.reason
    assert traffic.lost == []
    assert rollouts.route().split == before
    assert rollouts.registry.alias(MODEL, "champion") == before.stable


def test_of_many_deploys_at_once_the_newest_is_left(rollouts: Rollouts, steady: int, tmp_path: Path) -> None:
    versions = [
        rollouts.register(answering.directory(rollouts.trained, tmp_path / str(n), odd=False)) for n in range(AT_ONCE)
    ]

    def deploy(at: int) -> bool | Conflict:
        try:
            return rollouts.roll_out(
                versions[at], replace(POLICY, steps=(replace(POLICY.steps[0], timeout_s=60),))
            ).finished
        except Conflict as refused:
            return refused

    with Traffic(rollouts.house.url, MODEL, body=answering.windy(1.0)) as traffic:
        traffic.wait_for(20)
        with ThreadPoolExecutor(AT_ONCE) as several:
            ends = list(several.map(deploy, range(AT_ONCE)))
        traffic.wait_for(sum(traffic.answered.values()) + 20)
    newest = versions[-1].version
    print(f"{ends}; lost {len(traffic.lost)} of {traffic.total}, answered {dict(traffic.answered)}")
    assert ends[-1] is True
    assert traffic.lost == []
    assert rollouts.route().split.stable == newest
    assert rollouts.registry.alias(MODEL, "champion") == newest
    running = {endpoint.version for endpoint in rollouts.deployer.running(MODEL)}
    assert running <= rollouts.route().split.versions
    back_to(rollouts, steady)
