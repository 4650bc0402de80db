"""`headrace rollout` and `headrace rollback` as a stranger tries them, on a platform of fakes."""

import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headrace.adapters.local import locks
from headrace.cli import cli
from headrace.cli.session import Session
from headrace.domain import rollout as rollouts
from headrace.domain.evidence import Counts, Expected
from headrace.domain.rollout import Action, Look, RolloutState
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.split import Split
from headrace.errors import Conflict, Unavailable, UsageError
from headrace.ports import ModelRegistry, Platform, Route
from headrace.settings import Settings
from tests import fakes

ROOT = Path(__file__).parents[2]
MODEL = "flight_delay"
POLICY = RolloutPolicy(
    steps=(
        RolloutStep(shadow_pct=100, min_requests=5, hold_s=0, timeout_s=2),
        RolloutStep(weight_pct=10, min_requests=5, hold_s=0, timeout_s=2),
    ),
    interval_s=0.01,
)
VERBS = ("pause", "resume", "abort", "promote")


class Registry(fakes.FakeModelRegistry):
    """Does not answer while it is `down`."""

    down = False

    def record_rollout(self, model: str, version: int, outcome: str) -> None:
        self._answer()
        super().record_rollout(model, version, outcome)

    def set_alias(self, model: str, alias: str, version: int) -> None:
        self._answer()
        super().set_alias(model, alias, version)

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("MLflow does not answer")


@dataclass
class House:
    """Two versions of a model that run, the first of them in service."""

    home: Path
    invoked: CliRunner = field(default_factory=CliRunner)

    def __post_init__(self) -> None:
        self.registry = Registry(self.home / "registry")
        self.deployer = fakes.FakeDeployer()
        self.router = fakes.FakeRouter(lambda model: {one.version: one.url for one in self.deployer.running(model)})
        self.metrics = fakes.FakeMetricsSource()
        self.journal = fakes.FakeJournal()
        self.session = Session(Settings(ROOT, self.home))
        self.session.__dict__["platform"] = self.platform()
        self.session.__dict__["laptop"] = SimpleNamespace(health=dict)
        for number in (1, 2):
            self.add(number)
        self.router.write(MODEL, Split(1), 0, "v1 is the first version")
        self.registry.set_alias(MODEL, "champion", 1)

    def platform(self) -> Platform:
        def answer(model: str, version: int | None) -> int:
            self.metrics.answer(model, version or 1)
            self.metrics.tell(model, version or 1, {"row": 0.5})
            return 200

        registry: ModelRegistry = self.registry
        return Platform(
            root=ROOT,
            home=self.home,
            environment="test",
            code_version=lambda model: fakes.lineage().code,
            data=fakes.FakeDataStore({}),
            features=fakes.FakeFeatureStore({}),
            registry=registry,
            deployer=self.deployer,
            router=self.router,
            metrics=self.metrics,
            prober=fakes.FakeProber(answer),
            journal=self.journal,
            outcomes=fakes.FakeOutcomes(),
        )

    def add(self, number: int) -> None:
        directory = fakes.model_directory(self.home / f"made-{number}", MODEL, number)
        (directory / "golden.json").write_text(json.dumps({"rows": [{"x": 1}]}))
        contract = (ROOT / "models" / MODEL / "contract.yaml").read_text()
        (directory / "contract.json").write_text(contract)
        run = self.registry.start_run(MODEL, f"k{number}", {})
        version = self.registry.register(fakes.lineage(run_key=f"k{number}", experiment_run=run), directory)
        self.deployer.start(version, directory, 1)
        self.metrics.serve(MODEL, number)

    def begin(self, step: int = 1, **changes: Any) -> RolloutState:
        """Try the second version, at this step."""
        counts = (Counts(0, 0, started_at=1), Counts(0, 0, started_at=1))
        state = replace(rollouts.begin(2, POLICY, Expected(0.05), 1000.0, counts), step=step, **changes)
        route = self.route
        self.router.write(MODEL, rollouts.split_of(state, route.split), route.generation, "it begins", state)
        look = Look(1001.0, state.current.describe(), "v1 90 %, v2 10 %", 10, Action("hold", "too few", (), (3, 30)))
        self.journal.append(MODEL, state.key, look)
        return state

    @property
    def route(self) -> Route:
        found = self.router.read(MODEL)
        assert found is not None
        return found

    @property
    def state(self) -> RolloutState:
        found = self.route.rollout
        assert found is not None
        return found

    @property
    def looks(self) -> list[Look]:
        return list(self.journal.looks(MODEL, self.state.key))

    def run(self, *arguments: str) -> Result:
        return self.invoked.invoke(cli, arguments, obj=self.session)

    def said(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.exit_code == 0, done.output + repr(done.exception)
        return done.output

    def refused(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert isinstance(done.exception, UsageError | Conflict | Unavailable), done.output + repr(done.exception)
        return str(done.exception)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.parametrize("verb", ["status", "explain", *VERBS])
def test_unknown_model_is_named_with_those_that_exist(house: House, verb: str):
    assert "flight_delay" in house.refused("rollout", verb, "flight_dely")


@pytest.mark.parametrize("verb", ["status", "explain", *VERBS])
def test_model_that_is_not_in_service_says_how_it_gets_there(house: House, verb: str):
    assert "headrace up bike_demand" in house.refused("rollout", verb, "bike_demand")


@pytest.mark.parametrize("verb", ["status", "explain"])
def test_reading_before_any_rollout_says_that_there_was_none(house: House, verb: str):
    assert "has had no rollout yet: v1 answers everything" in house.said("rollout", verb, MODEL)


def test_json_before_any_rollout_has_none(house: House):
    assert json.loads(house.said("rollout", "status", MODEL, "--json"))["rollout"] is None
    assert json.loads(house.said("rollout", "explain", MODEL, "--json")) == []


@pytest.mark.parametrize("verb", VERBS)
def test_steering_before_any_rollout_is_refused(house: House, verb: str):
    assert "has had no rollout yet" in house.refused("rollout", verb, MODEL)
    assert house.route.generation == 1


@pytest.mark.parametrize("verb", ["pause", "abort", "promote"])
def test_steering_after_the_end_says_how_it_ended(house: House, verb: str):
    house.begin()
    house.said("rollout", "abort", MODEL, "--by", "ann")
    assert "taken back: aborted by ann" in house.refused("rollout", verb, MODEL)


@pytest.mark.parametrize("verb", VERBS)
def test_dry_run_changes_nothing(house: House, verb: str):
    house.begin()
    before, looks = house.route, house.looks
    assert house.said("rollout", verb, MODEL, "--dry-run")
    assert (house.route, house.looks) == (before, looks)


@pytest.mark.parametrize("verb", VERBS)
def test_nameless_word_is_refused(house: House, verb: str):
    house.begin()
    assert house.run("rollout", verb, MODEL, "--by", "  ").exit_code == 2
    assert house.route.generation == 2


def test_status_tells_step_traffic_and_that_nobody_drives(house: House):
    house.begin()
    said = house.said("rollout", "status", MODEL)
    assert "shadow → [10 %] → 100 %" in said
    assert "v1 90 %, v2 10 %" in said
    assert f"nobody: headrace rollout resume {MODEL}" in said


def test_status_names_the_driver_and_leaves_its_lock_alone(house: House):
    house.begin()
    lock = house.home / "locks" / f"{MODEL}.lock"
    with locks.held(lock, 0):
        signed = lock.read_text()
        assert f"process {signed}" in house.said("rollout", "status", MODEL)
        assert lock.read_text() == signed
    assert "nobody" in house.said("rollout", "status", MODEL)


def test_status_as_json_has_state_and_last_look(house: House):
    house.begin()
    said = json.loads(house.said("rollout", "status", MODEL, "--json"))
    assert (said["rollout"]["version"], said["look"]["action"]["reason"], said["driver"]) == (2, "too few", None)


def test_explain_tells_why_it_holds_and_that_nobody_would_take_it_back(house: House):
    house.begin()
    said = house.said("rollout", "explain", MODEL)
    assert "v2 is at 10 % of the traffic; step 2 of 2" in said
    assert "Why: too few." in said
    assert "Nobody drives it" in said


def test_explain_tells_the_end_and_by_whom(house: House):
    house.begin()
    house.said("rollout", "abort", MODEL, "--by", "ann")
    said = house.said("rollout", "explain", MODEL)
    assert "v2 was taken back at 10 %" in said
    assert "Why: aborted by ann." in said
    assert "taken back: aborted by ann" in said


def test_explain_tells_that_the_traffic_was_changed_after_the_end(house: House):
    house.begin()
    house.said("rollout", "promote", MODEL, "--by", "ann")
    assert "changed after" not in house.said("rollout", "explain", MODEL)
    house.said("rollback", MODEL, "--by", "bob")
    assert "That was changed after the rollout: rolled back by hand (bob)." in house.said("rollout", "explain", MODEL)


def test_pause_holds_the_step_and_resume_ends_the_pause(house: House):
    house.begin()
    house.said("rollout", "pause", MODEL, "--by", "ann")
    assert (house.state.paused_by, house.route.split) == ("ann", Split(1, 2, 10))
    with locks.held(house.home / "locks" / f"{MODEL}.lock", 0):
        assert "drives its rollout" in house.said("rollout", "resume", MODEL, "--by", "bob")
    assert (house.state.paused_by, house.state.reason) == (None, "resumed by bob")
    assert [look.action.reason for look in house.looks[1:]] == ["paused by ann", "resumed by bob"]


def test_second_pause_keeps_the_first(house: House):
    house.begin()
    house.said("rollout", "pause", MODEL, "--by", "ann")
    before = house.route
    assert "paused by ann already" in house.said("rollout", "pause", MODEL, "--by", "bob")
    assert house.route == before


def test_rollout_that_waits_for_approval_is_not_paused(house: House):
    house.begin(phase="waiting")
    assert "waits for approval anyway" in house.refused("rollout", "pause", MODEL)


def test_resume_where_nobody_drives_drives_to_the_end(house: House):
    house.begin()
    said = house.said("rollout", "resume", MODEL)
    assert "v2 answers all requests" in said
    assert (house.route.split, house.state.phase) == (Split(2, previous=1), "finished")
    assert house.registry.alias(MODEL, "champion") == 2


def test_resume_of_what_is_finished_is_refused(house: House):
    house.begin()
    house.said("rollout", "promote", MODEL)
    assert "no rollout of flight_delay is under way" in house.refused("rollout", "resume", MODEL)


def test_resume_of_what_was_taken_back_tries_it_once_more_from_the_first_step(house: House):
    first = house.begin()
    house.said("rollout", "abort", MODEL, "--by", "ann")
    house.metrics.serve(MODEL, 2)
    assert "would be tried once more" in house.said("rollout", "resume", MODEL, "--dry-run")
    assert house.state.key == first.key
    assert "it was taken back: aborted by ann" in house.said("rollout", "resume", MODEL)
    assert house.state.key != first.key
    assert (house.looks[0].step, house.state.phase, house.route.split.stable) == ("shadow", "finished", 2)


def test_abort_takes_everything_back_and_records_it(house: House):
    house.begin()
    said = house.said("rollout", "abort", MODEL, "--by", "ann")
    assert "aborted by ann: v1 100 %" in said
    assert "{" not in said, "events are for runners, not for people"
    assert (house.route.split, house.state.phase) == (Split(1), "taken back")
    assert house.registry.rollout(MODEL, 2) == "taken back: aborted by ann"
    assert house.registry.alias(MODEL, "champion") == 1
    assert [one.version for one in house.deployer.running(MODEL)] == [1]


def test_abort_wins_over_a_driver_that_was_faster(house: House):
    house.begin(step=0)
    write, faster = house.router.write, [True]

    def after_the_driver(model: str, split: Split, seen: int, note: str, rollout: RolloutState | None = None) -> Route:
        if faster.pop() if faster else False:
            ahead = rollouts.advanced(house.state, 1001.0, (None, None), "nothing against it")
            write(model, rollouts.split_of(ahead, house.route.split), seen, "on", ahead)
        return write(model, split, seen, note, rollout)

    house.router.__dict__["write"] = after_the_driver
    house.said("rollout", "abort", MODEL)
    assert not faster
    assert (house.route.split, house.state.step, house.state.phase) == (Split(1), 1, "taken back")


def test_abort_after_somebody_elses_end_says_so(house: House):
    state = house.begin()
    read, ends = house.router.read, [False, True]

    def ended_in_between(model: str) -> Route | None:
        if ends and ends.pop(0):
            route = read(model)
            assert route is not None
            done = rollouts.ended(state, "finished", "nothing against it")
            house.router.write(model, Split(2, previous=1), route.generation, "done", done)
        return read(model)

    house.router.__dict__["read"] = ended_in_between
    assert "has ended meanwhile" in house.refused("rollout", "abort", MODEL)
    assert house.route.split == Split(2, previous=1)


def test_promote_gives_all_traffic_and_keeps_whose_word_it_was(house: House):
    house.begin(phase="waiting")
    house.said("rollout", "promote", MODEL, "--by", "ann")
    assert (house.route.split, house.state.phase, house.state.approved_by) == (Split(2, previous=1), "finished", "ann")
    assert house.registry.alias(MODEL, "champion") == 2
    assert house.registry.rollout(MODEL, 2) == "finished"


def test_version_that_is_not_ready_is_not_promoted(house: House):
    house.begin()
    (house.home / "made-2" / "not_ready").touch()
    assert "not ready, nothing was changed" in house.refused("rollout", "promote", MODEL)
    assert house.route.split == Split(1, 2, 10)


@pytest.mark.parametrize(
    ("verb", "recorded", "champion"), [("abort", "taken back: aborted by ann", 1), ("promote", "finished", 2)]
)
def test_what_the_registry_did_not_hear_is_told_later_by_resume(house: House, verb: str, recorded: str, champion: int):
    house.begin()
    house.registry.down = True
    said = house.refused("rollout", verb, MODEL, "--by", "ann")
    assert f"v{champion} 100 % is done" in said
    assert f"headrace rollout resume {MODEL}" in said
    house.registry.down = False
    assert "the registry knows now" in house.said("rollout", "resume", MODEL)
    assert house.registry.rollout(MODEL, 2) == recorded
    assert house.registry.alias(MODEL, "champion") == champion


def test_record_that_cannot_be_written_keeps_nobody_from_taking_a_version_back(house: House):
    house.begin()

    def full(model: str, rollout: str, look: Look) -> None:
        raise Unavailable("there is no room")

    house.journal.__dict__["append"] = full
    assert "not in the record of the rollout: there is no room" in house.said("rollout", "abort", MODEL)
    assert house.registry.rollout(MODEL, 2) is not None


def test_rollback_during_a_rollout_ends_it(house: House):
    house.begin()
    assert "v1 100 %, switched in" in house.said("rollback", MODEL, "--by", "ann")
    assert (house.route.split, house.state.phase, house.state.reason) == (
        Split(1),
        "taken back",
        "rolled back by hand (ann)",
    )
    assert house.looks[-1].action.kind == "take back"
    assert house.registry.rollout(MODEL, 2) == "taken back: rolled back by hand (ann)"


def test_rollback_to_the_version_that_is_being_tried_is_refused(house: House):
    house.begin()
    assert "headrace rollout promote" in house.refused("rollback", MODEL, "--to", "2")
    assert house.route.split == Split(1, 2, 10)


def test_rollback_with_nowhere_to_go_says_so(house: House):
    assert "no version before" in house.refused("rollback", MODEL)


def test_rollback_whose_registry_was_down_is_completed_by_naming_the_version(house: House):
    house.begin()
    house.said("rollout", "promote", MODEL)
    house.registry.down = True
    said = house.refused("rollback", MODEL)
    assert f"headrace rollback {MODEL} --to 1" in said
    assert (house.route.split.stable, house.registry.alias(MODEL, "champion")) == (1, 2)
    house.registry.down = False
    generation = house.route.generation
    assert "already" in house.said("rollback", MODEL, "--to", "1")
    assert (house.route.generation, house.registry.alias(MODEL, "champion")) == (generation, 1)


def test_page_opens_during_a_rollout_and_after_it(house: House):
    house.begin()
    during = house.said("open", "rollout", MODEL, "--print").strip()
    assert "RUNNING" in Path(during.removeprefix("file://")).read_text()
    house.said("rollout", "abort", MODEL)
    assert house.said("open", "rollout", MODEL, "--print").strip() == during
    assert "TAKEN BACK" in Path(during.removeprefix("file://")).read_text()


def test_page_of_no_rollout_is_refused(house: House):
    assert "no rollout yet" in house.refused("open", "rollout", MODEL, "--print")


@pytest.mark.parametrize("module", ["headrace.cli", "headrace.cli.rollout", "headrace.cli.run"])
def test_nothing_slow_is_imported_before_traffic_can_move(module: str, tmp_path: Path):
    code = (
        f"import sys, pathlib, {module}\n"
        "from headrace import bootstrap, settings\n"
        f"here = settings.Settings(pathlib.Path({str(ROOT)!r}), pathlib.Path({str(tmp_path)!r}))\n"
        "platform = bootstrap.platform(here)\n"
        "platform.router.read('flight_delay')\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"mlflow", "pandas", "sklearn", "feast", "dvc", "kfp", "jinja2", "hydra"} & set(done.stdout.split())
