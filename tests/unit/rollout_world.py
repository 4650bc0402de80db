"""A platform of fakes in which time passes when somebody waits, clients ask, and drivers can be killed at any call."""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.domain import rollout as rollouts
from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout import Look, RolloutState
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.split import Split, rolled_back
from headrace.ports import Platform, Route
from headrace.steps.deploy import roll_out
from headrace.steps.handover import Rollout
from headrace.steps.settling import settle
from headrace.steps.watching import Clock
from tests import fakes
from tests.unit.rollout_parts import BUDGET_S, CONTRACT, MODEL, Behaviour, Killed, Port, Registry, half

POLICY = RolloutPolicy(
    steps=(
        RolloutStep(shadow_pct=100, min_requests=50),
        *(RolloutStep(pct, min_requests=50, hold_s=2.0) for pct in (1, 10, 50)),
    ),
    interval_s=1.0,
)
NOON = 1_700_000_000.0
BY_HAND = "rolled back by hand"
EDGES = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass
class World:
    """Where versions are registered and rolled out.

    Attributes:
        behaviour: of a version; a good one where nothing is said.
        per_s: requests of clients a second.
        kill: asked before and after every call of a port, with its name; True kills the driver there.
        failing: name of a call (``router.write``, or ``after router.write``) to what it raises.
        before: name of a call to what else happens just before it.
        events: when (as `now`) what happens, while somebody waits.
        answered: version to requests of clients that it answered.
        calls: how often each port was called, over all drivers.
        champions: what `champion` was set to.
    """

    folder: Path
    per_s: int = 2000
    behaviour: dict[int, Behaviour] = field(default_factory=dict)
    kill: Callable[[str], bool] = lambda call: False
    failing: dict[str, Exception] = field(default_factory=dict)
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    events: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    answered: Counter[int] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    champions: list[int] = field(default_factory=list)
    now: float = 0.0
    wall_offset: float = NOON

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.registry = Registry(self.folder / "registry")
        self.deployer = fakes.FakeDeployer()
        self.router = fakes.FakeRouter(lambda m: {e.version: e.url for e in self.deployer.running(m)})
        self.metrics = fakes.FakeMetricsSource()
        self.prober = fakes.FakeProber(self._probed, self._score)
        self.journal = fakes.FakeJournal()
        self.outcomes = fakes.FakeOutcomes()
        self._owed: Counter[tuple[int, str]] = Counter()
        self._probes: Counter[int] = Counter()
        self._row = 0

    def _around(self, call: str, real: Callable[[], Any]) -> Any:
        with self.lock:
            self.calls[call] += 1
            happens = self.before.pop(call, None)
            if happens:
                happens()
            if self.kill(call):
                raise Killed(call)
            if call in self.failing:
                raise self.failing[call]
            result = real()
            if f"after {call}" in self.failing:
                raise self.failing[f"after {call}"]
            if call == "registry.set_alias":
                self.champions.append(self.registry.alias(MODEL, "champion") or 0)
            if call == "router.write":
                check(self)
            if self.kill(f"after {call}"):
                raise Killed(call)
            return result

    @property
    def platform(self) -> Platform:
        ports = ("registry", "deployer", "router", "metrics", "prober", "journal", "outcomes")
        return Platform(
            root=self.folder,
            home=self.folder / "home",
            environment="test",
            code_version=lambda model: fakes.lineage().code,
            data=fakes.FakeDataStore({}),
            features=fakes.FakeFeatureStore({}),
            **{name: Port(name, getattr(self, name), self._around) for name in ports},  # type: ignore[arg-type]
        )

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep, lambda: self.now + self.wall_offset)

    def sleep(self, seconds: float) -> None:
        """Time passes, clients ask, and what was to happen happens."""
        with self.lock:
            self.now += seconds
            self._clients(round(self.per_s * seconds))
            due = [event for event in self.events if event[0] <= self.now]
            self.events = [event for event in self.events if event[0] > self.now]
        for _, happens in due:
            happens()

    def register(self, behaviour: Behaviour | None = None, **switches: str) -> ModelVersion:
        number = len(self.registry.versions(MODEL)) + 1
        directory = fakes.model_directory(self.folder / f"made-{number}", MODEL, number, **switches)
        (directory / "golden.json").write_text(json.dumps({"rows": [{"x": n} for n in range(20)]}))
        (directory / "contract.json").write_text(json.dumps(CONTRACT))
        self.behaviour[number] = behaviour or Behaviour()
        if self.behaviour[number].counted:
            self.serve(number)
        lineage = fakes.lineage(run_key=f"k{number}", experiment_run=f"e{number}")
        return self.registry.register(lineage, directory)

    def serve(self, number: int) -> None:
        """As its process does when it has just started."""
        self.metrics.serve(MODEL, number)
        self._count(number, 0)

    def deploy(self, version: ModelVersion, policy: RolloutPolicy = POLICY) -> Rollout:
        return roll_out(self.platform, version, policy, self.clock)

    def steer(self, to: Callable[[RolloutState], RolloutState]) -> None:
        """Write what a person's command writes (`headrace rollout pause`, ``abort``, ``promote``), as that does."""
        route = self.route
        assert route.rollout is not None
        after = to(route.rollout)
        split = rollouts.split_of(after, route.split)
        written = self.router.write(MODEL, split, route.generation, after.reason, after)
        if not after.active:
            settle(self.platform, self.registry.version(MODEL, after.version), written, after)

    def roll_back(self) -> None:
        """What `headrace rollback` does."""
        route = self.route
        state, split = route.rollout, rolled_back(route.split)
        assert split is not None
        was_active = state is not None and state.active
        if state is not None and was_active:
            state = rollouts.ended(state, "taken back", BY_HAND)
        written = self.router.write(MODEL, split, route.generation, BY_HAND, state)
        if state is not None and was_active:
            settle(self.platform, self.registry.version(MODEL, state.version), written, state)
        self.platform.registry.set_alias(MODEL, "champion", written.split.stable)

    @property
    def route(self) -> Route:
        route = self.router.read(MODEL)
        assert route is not None
        return route

    @property
    def moves(self) -> list[int]:
        """What `champion` named, one after the other; drivers at once may each point it at the same version."""
        return [version for version, _ in itertools.groupby(self.champions)]

    @property
    def splits(self) -> list[Split]:
        return [route.split for route in self.router.history]

    @property
    def running(self) -> set[int]:
        return {endpoint.version for endpoint in self.deployer.running(MODEL)}

    @property
    def looks(self) -> list[Look]:
        """Of the last rollout."""
        assert self.route.rollout is not None
        return list(self.journal.looks(MODEL, self.route.rollout.key))

    def _clients(self, count: int) -> None:
        route = self.router.read(MODEL)
        if route is None or not count:
            return
        split, first = route.split, self._row
        self._row += count
        canary = self._share(split.canary or 0, "traffic", split.canary_pct / 100, count)
        for version, answers in ((split.stable, count - canary), (split.canary, canary)):
            if version is not None:
                self.answered[version] += answers
                self._count(version, answers)
        if split.shadow is not None:
            self._count(split.shadow, self._share(split.shadow, "copies", split.shadow_pct / 100, count))
            for version in (split.stable, split.shadow):
                score = self.behaviour[version].score
                self.metrics.tell(MODEL, version, {f"r{n}": score(n) for n in range(first, first + min(count, 100))})

    def _probed(self, model: str, version: int | None) -> int:
        number = version if version is not None else self.deployer.running(model)[-1].version
        row = self._probes[number] % 20
        self._probes[number] += 1
        self.metrics.tell(MODEL, number, {f"probe{row}": self.behaviour[number].score(row)})
        return 500 if self._count(number, 1) else 200

    def _count(self, version: int, answers: int) -> int:
        """Count answers of a version, and return how many of them were errors."""
        how = self.behaviour[version]
        errors, refusals, slow, bad = (
            self._share(version, name, getattr(how, name), answers) for name in ("errors", "refusals", "slow", "bad")
        )
        if not how.counted:
            return errors
        scores = [how.score(n) for n in (0, 1)]
        halves = self._share(version, "even", 0.5, answers), answers
        evens, odds = halves[0], answers - halves[0]
        below = {edge: evens * (scores[0] <= edge) + odds * (scores[1] <= edge) for edge in EDGES}
        self.metrics.answer(
            MODEL,
            version,
            answers,
            rows=answers,
            bad_outputs=bad,
            durations={BUDGET_S / 2: answers - slow, BUDGET_S: answers - slow, 10 * BUDGET_S: answers},
            scores=below,
        )
        self.metrics.answer(MODEL, version, -errors - refusals)
        self.metrics.answer(MODEL, version, errors, status=500)
        self.metrics.answer(MODEL, version, refusals, status=400)
        return errors

    def _share(self, version: int, what: str, share: float, count: int) -> int:
        """So many of so many, without chance: fractions are kept for the next time."""
        self._owed[version, what] += round(share * 1000) * count
        whole, self._owed[version, what] = divmod(self._owed[version, what], 1000)
        return whole

    def _score(self, url: str, row: Mapping[str, Any]) -> float:
        return half(int(row["x"]))


def check(world: World) -> None:
    """What holds at every moment: called after every write."""
    route, before = world.router.history[-1], world.router.history[-2:-1]
    state = route.rollout
    if state is None:
        return
    assert rollouts.split_of(state, route.split) == route.split, "split and state belong together"
    known = {0, *(step.weight_pct for step in state.policy.steps)}
    assert route.split.canary_pct in known
    former = before[0].rollout if before else None
    if former is not None and former.key == state.key:
        assert former.active or former.phase == state.phase, "an end is an end"
        assert state.step >= former.step
        if state.active:
            assert route.split.canary_pct >= before[0].split.canary_pct
    if state.active:
        assert state.version > route.split.stable
    for version in route.split.weights:
        assert version in world.running


def check_end(world: World) -> None:
    """What holds when every driver has come to its end."""
    split = world.route.split
    assert split.tried is None
    assert world.registry.alias(MODEL, "champion") == split.stable
    assert world.running == split.versions
    rolled = [route.rollout for route in world.router.history if route.rollout is not None]
    finished = Counter(version for version, _ in {(one.version, one.key) for one in rolled if one.phase == "finished"})
    assert set(finished.values()) <= {1}, "a version finishes once"
