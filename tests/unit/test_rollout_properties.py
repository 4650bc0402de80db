"""Rollouts by property: whatever is seen, in whatever order."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import nan

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.domain import rollout as rollouts
from headrace.domain.evidence import Counts, Expected
from headrace.domain.rollout import Action, RolloutState, Seen, next_action, split_of
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.sequences import Tally
from headrace.domain.split import Split

NEW, STABLE = 2, 1
POLICY = RolloutPolicy(
    (
        RolloutStep(shadow_pct=100, min_requests=20, hold_s=1.0, timeout_s=30.0),
        RolloutStep(weight_pct=1, min_requests=20, hold_s=1.0, timeout_s=30.0),
        RolloutStep(weight_pct=50, min_requests=20, hold_s=0.0, timeout_s=30.0),
    ),
    approval_timeout_s=100.0,
)
EXPECTED = Expected(0.05, scores={0.4: 0.0}, disagreement=0.0)


def counted(before: Counts, answers: int, errors: int) -> Counts:
    """After so many more answers of one row each, of which so many were errors."""
    rows = before.rows + answers - errors
    return Counts(
        before.answers + answers,
        before.errors + errors,
        {0.05: before.answers + answers},
        rows,
        scores={0.4: rows // 2, 0.5: rows // 2},
        started_at=before.started_at,
    )


@dataclass
class World:
    """What is there to see, and who drives: applies what is decided as `headrace.steps.driver` does."""

    state: RolloutState
    split: Split
    new: Counts
    stable: Counts
    now: float = 0.0
    lacking: str = ""
    ready: bool | None = True
    pairs: Tally = field(default_factory=lambda: Tally(0, 0))
    advances: int = 0
    promoted: bool = False
    spent: dict[tuple[int, str, str], float] = field(default_factory=dict)

    def look(self) -> None:
        """Look, check the decision, and apply it."""
        before = self.split.weights.get(NEW, 0)
        new = None if "new" in self.lacking else self.new
        stable = None if "stable" in self.lacking else self.stable
        seen = Seen(new, stable, self.ready, self.now - self.state.step_at, self.pairs if self.split.shadow else None)
        action = next_action(self.state, seen)
        self._note(action)
        counts = (seen.new, seen.stable)
        match action.kind:
            case "advance":
                self._check_advance(seen, action)
                self.advances += 1
                self.apply(rollouts.advanced(self.state, self.now, counts, action.reason))
            case "renew":
                self.apply(rollouts.renewed(self.state, counts, action.reason))
            case "take back":
                self.apply(rollouts.ended(self.state, "taken back", action.reason))
        after = self.split.weights.get(NEW, 0)
        assert after == 0 if self.state.phase == "taken back" else after >= before

    def apply(self, state: RolloutState) -> None:
        self.state, self.split = state, split_of(state, self.split)

    def _note(self, action: Action) -> None:
        if action.findings:
            assert self.state.new is not None
            assert self.state.stable is not None
            key = (self.state.window, repr(self.state.new), repr(self.state.stable))
            self.spent[key] = rollouts.window_error(self.state)

    def _check_advance(self, seen: Seen, action: Action) -> None:
        assert seen.ready is True
        assert self.state.new is not None
        assert self.state.stable is not None
        assert seen.new is not None
        assert seen.stable is not None
        came = (seen.new.since(self.state.new), seen.stable.since(self.state.stable))
        assert all(one is not None and one.answers >= self.state.current.min_requests for one in came)
        assert seen.elapsed_s >= self.state.current.hold_s
        assert self.state.paused_by is None
        metrics = {re.split(" up to | above ", one.metric)[0] for one in action.findings}
        assert metrics >= {"errors", "slow answers", "bad outputs", "fallbacks", "scores"}
        assert ("disagreement" in metrics) == (self.split.shadow is not None)
        assert {one.outcome for one in action.findings} == {"pass"}


def traffic(new: int, stable: int, errors: int = 0) -> Callable[[World], None]:
    def happens(world: World) -> None:
        world.new = counted(world.new, new, min(errors, new))
        world.stable = counted(world.stable, stable, 0)
        if world.split.shadow:
            world.pairs = Tally(world.pairs.hits, world.pairs.total + new)

    return happens


def restarts(new: bool, stable: bool) -> Callable[[World], None]:
    def happens(world: World) -> None:
        if new:
            world.new = Counts(0, 0, started_at=world.now + 2)
        if stable:
            world.stable = Counts(0, 0, started_at=world.now + 2)

    return happens


def becomes(**changes: object) -> Callable[[World], None]:
    def happens(world: World) -> None:
        for name, value in changes.items():
            setattr(world, name, value)

    return happens


def counters_fall(world: World) -> None:
    world.stable = replace(world.stable, answers=world.stable.answers // 2)


def start_is_no_number(world: World) -> None:
    world.new = replace(world.new, started_at=nan)


def pause(world: World) -> None:
    world.apply(rollouts.paused(world.state, world.now, "ada"))


def resume(world: World) -> None:
    world.apply(rollouts.resumed(world.state, world.now, "ada"))


def promote(world: World) -> None:
    world.promoted = True
    world.apply(rollouts.approved(world.state, "ada"))


def steady(world: World) -> None:
    traffic(30, 100)(world)


RARE = [
    traffic(30, 100, 30),
    traffic(0, 100),
    traffic(5, 100),
    traffic(30, 5),
    traffic(30, 100, 1),
    restarts(True, False),
    restarts(False, True),
    restarts(True, True),
    becomes(lacking="new"),
    becomes(lacking="stable"),
    becomes(lacking="new and stable"),
    becomes(ready=False),
    becomes(ready=None),
    becomes(ready=True, lacking=""),
    counters_fall,
    start_is_no_number,
    pause,
    resume,
    promote,
]
# Mostly good traffic, so that rollouts get far.
EVENTS = st.lists(
    st.tuples(st.one_of(st.just(steady), st.sampled_from([steady, *RARE])), st.sampled_from([0.5, 2.0, 40.0])),
    max_size=30,
)


def begun(approval: bool, counters: bool) -> World:
    new, stable = Counts(7, 0, started_at=1.0), Counts(900, 3, started_at=1.0)
    policy = replace(POLICY, approval=approval)
    state = rollouts.begin(NEW, policy, EXPECTED, 0.0, (new, stable) if counters else (None, None))
    return World(state, split_of(state, Split(STABLE, previous=7)), new, stable)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.booleans(), st.booleans())
def test_whatever_happens_it_moves_on_evidence_alone_and_ends(
    events: list[tuple[Callable[[World], None], float]], approval: bool, counters: bool
):
    world = begun(approval, counters)
    for happens, elapsed_s in events:
        if not world.state.active:
            break
        world.now += elapsed_s
        happens(world)
        if world.state.active:
            world.look()
    looks = 0
    while world.state.active:
        world.now, looks = world.now + 1000.0, looks + 1
        world.look()
        assert looks <= len(POLICY.steps) + 2, "no evidence comes any more"
    assert world.state.phase in ("finished", "taken back")
    if world.state.phase == "finished":
        assert world.split == Split(NEW, previous=STABLE)
        assert world.promoted or (world.advances == len(POLICY.steps) and not approval)
    else:
        assert world.split == Split(STABLE, previous=7)
    assert sum(world.spent.values()) <= POLICY.error_budget
    assert len({window for window, *_ in world.spent}) == len(world.spent), "a window is judged from one beginning"


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.5, 2.0]), min_size=12, max_size=12), st.booleans(), st.booleans())
def test_a_good_version_with_steady_traffic_gets_everything(waits: list[float], approval: bool, counters: bool):
    world = begun(approval, counters)
    for elapsed_s in waits:
        if world.state.active:
            world.now += elapsed_s
            steady(world)
            world.look()
    assert world.advances == len(POLICY.steps)
    assert world.state.phase == ("waiting" if approval else "finished")
