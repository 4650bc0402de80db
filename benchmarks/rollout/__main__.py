"""What rollouts of good and bad versions cost their clients: python -m benchmarks.rollout.

Writes docs/benchmarks/rollout.md. The real service behind the real Traefik, MLflow, and clients at 200 requests a
second, on one machine; the bad versions are bad only for rows that their holdout has not.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.rollout import power
from benchmarks.rollout.load import Load
from benchmarks.rollout.page import Episode, Rollback, page
from benchmarks.serving.machine import description
from headrace.adapters.mlflow_registry import MlflowRegistry
from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.split import Split
from tests.faults.house import MODEL, ROOT, House, train
from tests.faults.rollouts import answering
from tests.faults.rollouts.between import Between
from tests.faults.rollouts.platform import Rollouts, as_trained

PAGE = ROOT / "docs/benchmarks/rollout.md"
INTERVAL_S = 5.0
_ROLLBACKS = 10
_QUIET_S = 2.0


def _step(weight_pct: int = 0, shadow_pct: int = 0) -> RolloutStep:
    return RolloutStep(weight_pct, shadow_pct, min_requests=50, hold_s=10, timeout_s=120)


WITH_SHADOW = RolloutPolicy(steps=(_step(shadow_pct=100), _step(1), _step(10), _step(50)), interval_s=INTERVAL_S)
WITHOUT = replace(WITH_SHADOW, steps=(_step(1), _step(10), _step(50)))
POLICIES = {"shadow first": WITH_SHADOW, "1 % first": WITHOUT}
# What is wrong with a version, to the wind at which it is.
BAD = {
    "ends every request with an error": answering.FAILING,
    "answers NaN": 40.0,
    "takes 0.1 s": answering.SLOW,
    "says a probability of 1.2": 52.0,
    "scores 0.5 too high": 60.0,
}


def main() -> int:
    """Measure, write the page; 1 when a goal was missed."""
    with tempfile.TemporaryDirectory(prefix="headrace-rollout-") as folder:
        place = Path(folder)
        (place / "trained").mkdir()
        house = House(place, train(place / "trained"))
        try:
            with Between(house.settings.mlflow_port) as between:
                trained = as_trained(place / "trained", place / "as-trained")
                rollouts = Rollouts(house, trained, between, MlflowRegistry(house.settings.tracking_uri))
                rollouts.start_mlflow()
                bench = Bench(rollouts, place)
                bench.put_in_service()
                episodes = [bench.good(name) for name in POLICIES]
                episodes += [bench.bad(what, name) for name in POLICIES for what in BAD]
                rollback = bench.rollbacks()
        finally:
            house.close()
    text, missed = page(episodes, rollback, power.table(), INTERVAL_S, f"{datetime.now(UTC):%Y-%m-%d}", description())
    PAGE.write_text(text)
    print(text)
    return 1 if missed else 0


@dataclass
class Bench:
    """A platform with a steady version in service."""

    rollouts: Rollouts
    folder: Path
    made: int = 0

    def put_in_service(self) -> None:
        """The stable version, which gives everybody the same answer."""
        version = self._register(odd=False)
        assert self.rollouts.roll_out(version).finished
        self.stable = version.version

    def good(self, name: str) -> Episode:
        """A version that is as good as the stable one, which it replaces."""
        version = self._register(odd=False)
        found = self._episode("is as good", name, version, answering.windy(1.0))
        self.stable = version.version if found.finished else self.stable
        return found

    def bad(self, what: str, name: str) -> Episode:
        """A version that answers these clients badly."""
        return self._episode(what, name, self._register(odd=True), answering.windy(BAD[what]))

    def _episode(self, what: str, name: str, version: ModelVersion, bodies: Iterator[bytes]) -> Episode:
        print(f"a version that {what}, {name}", file=sys.stderr)
        with Load(self.rollouts.house.url, MODEL, bodies) as load:
            load.for_s(_QUIET_S)
            began = time.monotonic()
            done = self.rollouts.roll_out(version, POLICIES[name])
            ended = time.monotonic()
            load.for_s(_QUIET_S)
            rate = load.per_s
        during = [one for one in load.answers if one.at >= began and one.began <= ended]
        after = [one for one in load.answers if one.began > ended]
        # A request that got no prediction was answered by the bad version: the stable one fails none.
        bad = [one for one in during if one.version != self.stable]
        return Episode(
            what=what,
            policy=name,
            finished=done.finished,
            reason=done.reason,
            rate=rate,
            requests=len(during),
            failed=sum(one.status != 200 for one in load.answers),
            exposed=len(bad),
            to_zero_s=max(one.at for one in bad) - min(one.at for one in bad) if bad and not done.finished else None,
            lasted_s=ended - began,
            after=sum(one.version != self.stable for one in after) if not done.finished else 0,
        )

    def rollbacks(self) -> Rollback:
        """The command, from its start to the last answer of the version that it takes away, and to its own end."""
        house, switched, whole = self.rollouts.house, [], []
        other = next(v for v in self._running() if v != self.stable) if len(self._running()) > 1 else self._second()
        command = [Path(sys.executable).with_name("headrace"), "rollback", MODEL]
        failed = 0
        for _ in range(_ROLLBACKS):
            route = self.rollouts.route()
            house.router.write(MODEL, Split(other, previous=self.stable), route.generation, "for the benchmark")
            with Load(house.url, MODEL, answering.windy(1.0)) as load:
                load.for_s(0.5)
                began = time.monotonic()
                subprocess.run(command, env=house.environment, check=True, cwd=ROOT, capture_output=True)
                whole.append(time.monotonic() - began)
                load.for_s(0.2)
            switched.append(max(one.at for one in load.answers if one.version == other) - began)
            failed += sum(one.status != 200 for one in load.answers)
        return Rollback(sorted(switched), sorted(whole), failed)

    def _second(self) -> int:
        version = self._register(odd=False)
        self.rollouts.deployer.start(version, self.rollouts.platform.model_directory(version), 60)
        return version.version

    def _running(self) -> list[int]:
        return [one.version for one in self.rollouts.deployer.running(MODEL)]

    def _register(self, odd: bool) -> ModelVersion:
        self.made += 1
        folder = self.folder / f"made-{self.made}"
        return self.rollouts.register(answering.directory(self.rollouts.trained, folder, odd=odd))


if __name__ == "__main__":
    sys.exit(main())
