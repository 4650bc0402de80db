"""What a rollout looks at: what is expected of two versions, what is seen of them, and requests of its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.domain import rollout as rollouts
from headrace.domain.evidence import Counts, Expected
from headrace.domain.rollout import RolloutState, Seen
from headrace.domain.score_shift import across
from headrace.domain.sequences import Tally
from headrace.domain.split import Split
from headrace.errors import Unavailable
from headrace.ports import Recent, Route
from headrace.steps.watching import Watch, counts, expected
from tests.unit.rollout_parts import BUDGET_S, CONTRACT, MODEL, half
from tests.unit.rollout_world import EDGES, NOON, POLICY, World

SILENT = Unavailable("it does not answer")
ROWS = [{"x": n} for n in range(20)]
SHADOW = Route(MODEL, Split(1, shadow=2, shadow_pct=100), 1)
CANARY = Route(MODEL, Split(1, canary=2, canary_pct=10), 1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return two_versions(tmp_path)


def two_versions(folder: Path) -> World:
    """Which run, and nobody asks them."""
    world = World(folder, per_s=0)
    for version in (world.register(), world.register()):
        world.deployer.start(version, world.platform.model_directory(version), 1)
    world.router.write(MODEL, Split(1), 0, "it is the first")
    return world


def state_of(world: World, **changes: object) -> RolloutState:
    began = counts(world.platform, MODEL, 2, 1)
    state = rollouts.begin(2, POLICY, Expected(BUDGET_S, disagreement=0.0), world.clock.wall(), began)
    return replace(state, **changes)  # type: ignore[arg-type]


def watch_of(world: World) -> Watch:
    return Watch(world.platform, MODEL, ROWS, world.clock)


def scored(world: World, by_version: dict[int, Callable[[int], float]]) -> None:
    def score(url: str, row: dict[str, int]) -> float:
        version = int(url.removesuffix(".invalid").rpartition("-v")[2])
        return by_version[version](row["x"])

    world.prober._score = score  # type: ignore[assignment]


def expect(world: World, directory: str = "made-2") -> Expected:
    return expected(world.platform, MODEL, 2, 1, world.folder / directory)


def told(world: World, version: int, contract: dict[str, object]) -> None:
    """The version was made with another contract."""
    path = world.platform.model_directory(world.registry.version(MODEL, version)) / "contract.json"
    path.write_text(json.dumps(contract))


def test_versions_that_answer_alike_are_expected_to(world: World):
    assert expect(world) == Expected(BUDGET_S, 0.1, dict.fromkeys(across(EDGES, 0.1), 0.0), 0.0)


def test_what_the_holdout_tells_apart_is_expected_in_service(world: World):
    scored(world, {1: half, 2: lambda n: half(n) + 0.2})
    found = expect(world)
    assert {found.scores[end] for end in (0.45, 0.5, 0.6)} == {-0.5}
    assert {found.scores[end] for end in (0.05, 0.4, 0.8)} == {0.0}
    assert found.disagreement == 1.0


def test_a_difference_within_the_tolerance_is_no_disagreement(world: World):
    scored(world, {1: half, 2: lambda n: half(n) + 0.09})
    assert expect(world).disagreement == 0.0


def test_the_tolerance_of_a_regression_is_a_tenth_of_its_range(world: World):
    (world.folder / "made-2" / "contract.json").write_text(
        json.dumps({**CONTRACT, "task": "regression", "metric": "mae"})
    )
    scored(world, {1: lambda n: 10.0 * n, 2: lambda n: 10.0 * n + (20.0 if n < 5 else 0.0)})
    found = expect(world)
    assert found.tolerance == pytest.approx(17.0)
    assert found.disagreement == 0.25


def test_rows_of_versions_with_other_features_are_not_compared(world: World):
    feature = {**CONTRACT["features"][0], "name": "y"}
    told(world, 1, {**CONTRACT, "features": [feature], "example": {"y": 1}})
    found = expect(world)
    assert found.disagreement is None
    assert found.scores


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_not_compared(world: World, score: float):
    scored(world, {1: half, 2: lambda n: score})
    assert expect(world) == Expected(BUDGET_S)


@pytest.mark.parametrize("stopped", [1, 2])
def test_nothing_is_known_of_a_version_that_does_not_run(world: World, stopped: int):
    world.deployer.stop(MODEL, stopped)
    assert expect(world) == Expected(BUDGET_S)


def test_counters_that_can_not_be_had_are_none(world: World):
    assert None not in counts(world.platform, MODEL, 2, 1)
    world.metrics.silence(MODEL, 1)
    assert counts(world.platform, MODEL, 2, 1)[1] is None
    world.failing["metrics.counts"] = SILENT
    assert counts(world.platform, MODEL, 2, 1) == (None, None)
    assert expect(world).scores == {}


def test_readiness_is_seen_while_the_metrics_source_is_down(world: World):
    world.failing["metrics.counts"] = SILENT
    state = state_of(world)
    assert watch_of(world).look(CANARY, state) == Seen(None, None, True, 0.0)
    world.deployer.stop(MODEL, 2)
    assert watch_of(world).look(CANARY, state) == Seen(None, None, False, 0.0)


def test_readiness_that_can_not_be_found_out_is_none(world: World):
    world.failing["deployer.running"] = SILENT
    seen = watch_of(world).look(CANARY, state_of(world))
    assert seen.ready is None
    assert isinstance(seen.new, Counts)


@pytest.mark.parametrize("route", [SHADOW, CANARY], ids=["shadow", "canary"])
def test_versions_whose_rows_can_not_be_compared_are_not_judged_at_all(world: World, route: Route):
    world.failing["metrics.recent"] = SILENT
    assert watch_of(world).look(route, state_of(world)) == Seen(None, None, True, 0.0)


def test_rows_that_come_again_are_told_by_their_share(world: World):
    watch, state = watch_of(world), state_of(world)
    assert watch.look(CANARY, state).repeated == 0.0
    world.metrics.recent = lambda model: {2: Recent({"a": 0.5}, 0.75), 1: Recent({"b": 0.5}, 0.1)}  # type: ignore[method-assign]
    assert watch.look(CANARY, state).repeated == 0.75


def test_rows_that_both_predicted_are_counted_once_and_only_in_a_shadow(world: World):
    watch, state = watch_of(world), state_of(world)
    world.metrics.tell(MODEL, 1, {"a": 0.5, "b": 0.5, "c": 0.5})
    world.metrics.tell(MODEL, 2, {"a": 0.55, "b": 0.9, "d": 0.1})
    assert watch.look(SHADOW, state).pairs == Tally(1, 2)
    assert watch.look(SHADOW, state).pairs == Tally(1, 2)
    world.metrics.tell(MODEL, 2, {"c": 0.1})
    assert watch.look(SHADOW, state).pairs == Tally(2, 3)
    assert watch.look(CANARY, state).pairs is None


def test_rows_are_counted_anew_in_a_new_window(world: World):
    watch, state = watch_of(world), state_of(world)
    world.metrics.tell(MODEL, 1, {"a": 0.5})
    world.metrics.tell(MODEL, 2, {"a": 0.9})
    assert watch.look(SHADOW, state).pairs == Tally(1, 1)
    for version in (1, 2):
        world.serve(version)
    assert watch.look(SHADOW, replace(state, window=1)).pairs == Tally(0, 0)


def elapsed(world: World, watch: Watch, state: RolloutState) -> float:
    return watch.look(CANARY, state).elapsed_s


@pytest.mark.parametrize(("wall", "first"), [(0.0, 0.0), (5.0, 5.0), (-3600.0, 0.0), (3600.0, 60.0)])
def test_time_is_the_walls_until_the_first_look_and_steady_from_there(world: World, wall: float, first: float):
    state, watch = state_of(world), watch_of(world)
    world.wall_offset += wall
    assert elapsed(world, watch, state) == first
    for jump in (-7200.0, 7200.0):
        world.wall_offset += jump
        world.now += 2.0
        first += 2.0
        assert elapsed(world, watch, state) == first


def test_time_begins_anew_with_a_step_and_after_a_pause(world: World):
    state, watch = state_of(world), watch_of(world)
    assert elapsed(world, watch, state) == 0.0
    world.now += 5.0
    assert elapsed(world, watch, state) == 5.0
    assert elapsed(world, watch, replace(state, step=1, step_at=NOON + 5.0)) == 0.0
    paused = rollouts.paused(state, NOON + 5.0, "ann")
    assert elapsed(world, watch, paused) == 0.0
    world.now += 3.0
    assert elapsed(world, watch, rollouts.resumed(paused, NOON + 8.0, "ann")) == 0.0


def probe(world: World, watch: Watch, state: RolloutState, unclear: bool = False, **changes: object) -> bool:
    world.now += POLICY.interval_s
    seen = replace(watch.look(CANARY, state), **changes)  # type: ignore[arg-type]
    return watch.probe(state, 1, seen, unclear)


def asked(world: World) -> list[int | None]:
    return [version for _, _, version in world.prober.sent]


def test_both_versions_are_sent_as_many_rows_as_are_lacking(world: World):
    state, watch = state_of(world), watch_of(world)
    world.metrics.answer(MODEL, 1, 100)
    world.metrics.answer(MODEL, 2, 45)
    assert probe(world, watch, state)
    assert asked(world) == [2, 1] * 5
    assert not probe(world, watch, state), "they have come"


def test_probes_go_on_while_they_leave_a_question_open_but_not_for_ever(world: World):
    state, watch = state_of(world), watch_of(world)
    while probe(world, watch, state, unclear=True):
        assert len(asked(world)) <= 10_000
    assert asked(world).count(2) == 20 * POLICY.steps[0].min_requests


def test_open_questions_about_what_clients_sent_are_theirs_to_answer(world: World):
    state, watch = state_of(world), watch_of(world)
    world.metrics.answer(MODEL, 1, 100)
    world.metrics.answer(MODEL, 2, 100)
    assert not probe(world, watch, state, unclear=True)


def test_nothing_is_sent_before_clients_had_an_interval(world: World):
    state, watch = state_of(world), watch_of(world)
    assert not watch.probe(state, 1, watch.look(CANARY, state))
    assert asked(world) == []


def test_what_is_never_counted_is_not_sent_for_ever(world: World):
    state, watch = state_of(world), watch_of(world)
    world.behaviour[2] = replace(world.behaviour[2], counted=False)
    while probe(world, watch, state):
        assert len(asked(world)) <= 1000
    assert asked(world).count(2) == 100, "twice what is needed"


def test_a_version_that_lets_everybody_wait_is_looked_at_after_an_interval(world: World):
    state, watch = state_of(world), watch_of(world)

    def slowly(model: str, version: int | None) -> int:
        world.now += 5.0 if version == 2 else 0.0
        return 0

    world.prober._answer = slowly
    assert probe(world, watch, state)
    assert asked(world) == [2, 1]


@pytest.mark.parametrize("changes", [{"new": None}, {"stable": None}, {"new": Counts(60, 0), "stable": Counts(60, 0)}])
def test_nothing_is_sent_where_it_could_not_be_counted(world: World, changes: dict[str, object]):
    state = state_of(world, new=Counts(0, 0), stable=Counts(0, 0))
    assert not probe(world, watch_of(world), state, **changes)
    assert asked(world) == []


@pytest.mark.parametrize(
    "changes", [{"policy": replace(POLICY, probes=False)}, {"phase": "waiting"}, {"new": None}, {"stable": None}]
)
def test_nothing_is_sent_in_a_rollout_that_does_not_want_it(world: World, changes: dict[str, object]):
    assert not probe(world, watch_of(world), state_of(world, **changes))
    assert asked(world) == []
