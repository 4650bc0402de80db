"""Fault 15: whoever drives a rollout is killed at random, again and again; somebody else goes on from the record."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.adapters.local import traefik_route
from headrace.documents import write_json
from headrace.domain.rollout import split_of
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.split import Split
from tests.contract.conftest import eventually
from tests.contract.traffic import Traffic
from tests.faults.house import MODEL, ROOT
from tests.faults.rollouts import answering
from tests.faults.rollouts.platform import Rollouts, back_to

POLICY = RolloutPolicy(
    steps=(
        RolloutStep(shadow_pct=100, min_requests=20, hold_s=0.3),
        RolloutStep(weight_pct=10, min_requests=20, hold_s=0.3),
        RolloutStep(weight_pct=50, min_requests=20, hold_s=0.3),
    ),
    interval_s=0.1,
)
ROLLOUTS = int(os.environ.get("HEADRACE_TEST_KILLED_ROLLOUTS", "4"))
"""How many; each is killed until a driver lives long enough."""
_LONGEST_LIFE_S = 2.5


class Drivers:
    """Starts drivers, and kills them."""

    def __init__(self, rollouts: Rollouts, folder: Path) -> None:
        path = os.pathsep.join((str(ROOT), str(ROOT / "src")))
        write_json(folder / "policy.json", POLICY)
        self._host = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.rollouts.driver_host", str(folder / "policy.json")],
            cwd=ROOT,
            env=rollouts.house.environment | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._said() == "ready"

    def drive(self, version: int, life_s: float) -> bool:
        """Whether a driver got to its end within its life; else it was killed."""
        assert self._host.stdin
        self._host.stdin.write(f"{MODEL} {version} {life_s}\n")
        self._host.stdin.flush()
        code = int(self._said())
        assert code in (0, -signal.SIGKILL), f"the driver of v{version} ended with {code}"
        return code == 0

    def close(self) -> None:
        assert self._host.stdin
        assert self._host.stdout
        self._host.stdin.close()
        assert self._host.wait(30) == 0
        self._host.stdout.close()

    def _said(self) -> str:
        assert self._host.stdout
        return self._host.stdout.readline().strip()


@pytest.fixture
def drivers(rollouts: Rollouts, tmp_path: Path) -> Iterator[Drivers]:
    made = Drivers(rollouts, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("is_good", [True, False], ids=["good", "bad"])
def test_killed_drivers_leave_nothing_half_done(
    rollouts: Rollouts, steady: int, drivers: Drivers, tmp_path: Path, is_good: bool
) -> None:
    lives = random.Random(7 + is_good)
    body = rollouts.house.body if is_good else answering.windy(answering.FAILING)
    kills = 0
    with Traffic(rollouts.house.url, MODEL, body=body, pause_s=0.02) as traffic:
        for number in range(ROLLOUTS):
            before = rollouts.route().split
            version = rollouts.register(answering.directory(rollouts.trained, tmp_path / f"{number}", odd=not is_good))
            shares = [0]
            while not drivers.drive(version.version, lives.uniform(0.05, _LONGEST_LIFE_S)):
                kills += 1
                shares.append(whole(rollouts).weights.get(version.version, 0))
            assert shares == sorted(shares) or not is_good
            _ended_well(rollouts, version.version, before, is_good)
    print(f"{kills} drivers killed in {ROLLOUTS} rollouts; lost {len(traffic.lost)} of {traffic.total}")
    assert kills
    assert is_good == (rollouts.route().split.stable != steady)
    # A bad version fails those whom it answers, of which it has half at most; a good one nobody.
    assert len(traffic.lost) <= (0 if is_good else traffic.total / 2)
    back_to(rollouts, steady)


def whole(rollouts: Rollouts) -> Split:
    """The split, after a look at whether all that was written goes together, and is what the proxy has."""
    route = rollouts.route()
    assert route.rollout is None or split_of(route.rollout, route.split) == route.split
    # A driver may die between its write and Traefik's reading of it.
    eventually(lambda: traefik_route.held(rollouts.house.held_by_traefik(), MODEL).weights == route.split.weights)
    running = {endpoint.version for endpoint in rollouts.deployer.running(MODEL)}
    assert running >= {*route.split.weights, *([route.split.shadow] if route.split.shadow else [])}
    return route.split


def _ended_well(rollouts: Rollouts, version: int, before: Split, is_good: bool) -> None:
    split = whole(rollouts)
    assert rollouts.house.router.drifted(MODEL) is None
    assert split == (Split(version, previous=before.stable) if is_good else before)
    assert rollouts.registry.alias(MODEL, "champion") == split.stable
    told = rollouts.registry.rollout(MODEL, version) or ""
    assert told == "finished" if is_good else told.startswith("taken back: ")
    assert {endpoint.version for endpoint in rollouts.deployer.running(MODEL)} <= split.versions
