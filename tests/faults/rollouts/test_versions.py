"""Versions that deserve different ends, each rolled out whole under constant load behind the real proxy."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from headrace.domain.lineage import ModelVersion, release_name
from headrace.domain.rollout import Look
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.split import Split
from headrace.steps.handover import Rollout
from tests.contract.conftest import eventually
from tests.contract.traffic import Traffic
from tests.faults.house import MODEL
from tests.faults.rollouts import answering
from tests.faults.rollouts.platform import Rollouts, back_to

SHADOW = RolloutStep(shadow_pct=100, min_requests=30, hold_s=0.5, timeout_s=30)
CANARY_PCT = 10
CANARY = RolloutStep(weight_pct=CANARY_PCT, min_requests=30, hold_s=0.5, timeout_s=30)
POLICY = RolloutPolicy(steps=(SHADOW, CANARY), interval_s=0.25, probes=False)
NO_SHADOW = replace(POLICY, steps=(CANARY,))
# What clients send: a row that only the odd version answers in its own way, and the metric that shows it.
ODD = {
    "errors": answering.FAILING,
    "slow answers": answering.SLOW,
    "bad outputs": 52.0,
    "scores": 60.0,
}
NAN = 40.0


@dataclass
class Deployed:
    """What came of a rollout under load."""

    done: Rollout
    traffic: Traffic
    looks: list[Look]

    def exposure(self, version: int) -> float:
        """Share of the clients' requests that a version answered, or failed to."""
        return (self.traffic.answered[version] + len(self.traffic.lost)) / self.traffic.total


@pytest.fixture
def odd(rollouts: Rollouts, steady: int, tmp_path: Path) -> Iterator[ModelVersion]:
    version = rollouts.register(answering.directory(rollouts.trained, tmp_path / "odd"))
    before = rollouts.route().split
    yield version
    assert rollouts.route().split == before
    assert rollouts.registry.alias(MODEL, "champion") == steady
    assert version.version not in {endpoint.version for endpoint in rollouts.deployer.running(MODEL)}


def deploy(
    rollouts: Rollouts, version: ModelVersion, body: Iterator[bytes], policy: RolloutPolicy, **load: float
) -> Deployed:
    with Traffic(rollouts.house.url, MODEL, body=body, **load) as traffic:
        traffic.wait_for(20)
        done = rollouts.roll_out(version, policy)
        count = sum(traffic.answered.values())
        traffic.wait_for(count + 20)
    state = rollouts.route().rollout
    assert state is not None
    assert state.version == version.version
    looks = list(rollouts.platform.journal.looks(MODEL, state.key))
    print(f"{done.reason}; lost {len(traffic.lost)} of {traffic.total}, answered {dict(traffic.answered)}")
    return Deployed(done, traffic, looks)


def test_good_version_gets_everything_and_no_request_is_lost(rollouts: Rollouts, steady: int, tmp_path: Path) -> None:
    version = rollouts.register(answering.directory(rollouts.trained, tmp_path / "good", odd=False))
    seen = deploy(rollouts, version, answering.windy(52.0), POLICY)
    assert seen.done.finished, seen.done.reason
    assert seen.traffic.lost == []
    assert rollouts.route().split == Split(version.version, previous=steady)
    assert [look.step for look in seen.looks if look.action.kind == "advance"] == ["shadow", f"{CANARY_PCT} %"]
    back_to(rollouts, steady)


@pytest.mark.parametrize("metric", ODD)
def test_bad_version_is_found_out_as_a_shadow_and_answers_nobody(
    rollouts: Rollouts, odd: ModelVersion, metric: str
) -> None:
    # Copies come as fast as clients ask, whether the shadow keeps up or not: this one does, just so.
    load = {"client_count": 1, "pause_s": 0.1} if metric == "slow answers" else {}
    seen = deploy(rollouts, odd, answering.windy(ODD[metric]), POLICY, **load)
    assert not seen.done.finished
    assert metric in seen.done.reason
    assert seen.traffic.lost == []
    assert seen.exposure(odd.version) == 0
    assert {look.step for look in seen.looks} == {"shadow"}


def test_version_that_refuses_what_clients_send_is_found_out_as_a_shadow(
    rollouts: Rollouts, steady: int, tmp_path: Path
) -> None:
    version = rollouts.register(answering.choosy(rollouts.trained, tmp_path / "choosy"))
    body = json.dumps({"rows": [answering.rows(answering.USUAL)[0] | {"carrier": answering.LOST}]}).encode()
    seen = deploy(rollouts, version, body, POLICY)
    assert not seen.done.finished
    assert seen.done.reason.startswith("refusals: 100.00 % beside 0.00 %")
    assert seen.traffic.lost == []
    assert set(seen.traffic.answered) == {steady}
    assert {look.step for look in seen.looks} == {"shadow"}


def test_version_that_disagrees_is_found_out_as_a_shadow_row_by_row(rollouts: Rollouts, odd: ModelVersion) -> None:
    seen = deploy(rollouts, odd, answering.windy(60.0), POLICY)
    (disagreement,) = [one for one in seen.looks[-1].action.findings if one.metric == "disagreement"]
    assert disagreement.new is not None
    assert disagreement.new > 0


@pytest.mark.parametrize("metric", ODD)
def test_bad_canary_is_taken_back_for_the_true_reason_and_costs_no_more_than_its_share(
    rollouts: Rollouts, odd: ModelVersion, metric: str
) -> None:
    seen = deploy(rollouts, odd, answering.windy(ODD[metric]), NO_SHADOW)
    assert not seen.done.finished
    assert metric in seen.done.reason
    # Weights are dealt out in turn: what is above the share is requests in flight when it began and ended.
    assert seen.exposure(odd.version) <= CANARY_PCT / 100 + 2 * seen.traffic.client_count / seen.traffic.total
    if metric != "errors":
        assert seen.traffic.lost == []


def test_canary_that_answers_no_numbers_is_taken_back(rollouts: Rollouts, odd: ModelVersion) -> None:
    seen = deploy(rollouts, odd, answering.windy(NAN), NO_SHADOW)
    assert not seen.done.finished
    assert "errors" in seen.done.reason
    assert "bad outputs" in seen.done.reason


def test_killed_canary_is_taken_back_and_the_stable_version_does_not_notice(
    rollouts: Rollouts, odd: ModelVersion
) -> None:
    killed: list[int] = []
    write = rollouts.house.router.write

    class Killing:
        """The router; the canary dies as soon as it has traffic."""

        def __getattr__(self, name: str) -> object:
            return getattr(rollouts.house.router, name)

        def write(self, *arguments: object, **more: object) -> object:
            route = write(*arguments, **more)  # type: ignore[arg-type]
            process = rollouts.house.process(odd.release)
            if route.split.canary == odd.version and process and not killed:
                killed.append(process.pid)
                process.kill()
            return route

    platform = replace(rollouts.platform, router=Killing())  # type: ignore[arg-type]
    half = replace(NO_SHADOW, steps=(replace(CANARY, weight_pct=50),))
    with Traffic(rollouts.house.url, MODEL, body=rollouts.house.body) as traffic:
        traffic.wait_for(50)
        done = rollouts.roll_out(odd, half, platform)
        traffic.wait_for(sum(traffic.answered.values()) + 200)
    print(f"{done.reason}; lost {len(traffic.lost)} of {traffic.total}")
    assert killed
    assert not done.finished
    assert "no longer ready" in done.reason or "started anew" in done.reason
    # What it had begun to read can't be sent again: one request a client at most.
    assert len(traffic.lost) <= traffic.client_count


def test_killed_stable_version_voids_the_evidence_and_promotes_nobody(
    rollouts: Rollouts, steady: int, tmp_path: Path
) -> None:
    version = rollouts.register(answering.directory(rollouts.trained, tmp_path / "good", odd=False))
    killed: list[int] = []
    journal = rollouts.platform.journal

    class Killing:
        """The journal; the stable version dies after the canary's first look."""

        looks = journal.looks

        def append(self, model: str, rollout: str, look: Look) -> None:
            journal.append(model, rollout, look)
            process = rollouts.house.process(release_name(MODEL, steady))
            if look.new_pct and process and not killed:
                killed.append(process.pid)
                process.kill()
                eventually(lambda: rollouts.house.process(release_name(MODEL, steady)) not in (None, process))

    platform = replace(rollouts.platform, journal=Killing())  # type: ignore[arg-type]
    with Traffic(rollouts.house.url, MODEL, body=answering.windy(1.0)) as traffic:
        traffic.wait_for(50)
        done = rollouts.roll_out(version, NO_SHADOW, platform)
        # What failed while nobody else could answer has failed; from here on nothing does.
        failed = len(traffic.lost)
        traffic.wait_for(sum(traffic.answered.values()) + 100)
    state = rollouts.route().rollout
    assert state is not None
    looks = journal.looks(MODEL, state.key)
    print(f"{[look.action.kind for look in looks]}; lost {failed} of {traffic.total}")
    assert killed
    assert done.finished
    # It was compared with the stable version that was started again, and with nothing from before.
    assert [look.action.kind for look in looks if look.action.kind != "hold"] == ["renew", "advance"]
    assert min(looks[-1].action.requests) >= CANARY.min_requests
    assert len(traffic.lost) == failed
    back_to(rollouts, steady)


def test_weight_edited_by_hand_is_put_right_by_the_driver(
    rollouts: Rollouts, steady: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = rollouts.register(answering.directory(rollouts.trained, tmp_path / "good", odd=False))
    router = rollouts.house.router
    edited: list[str] = []

    class Edited:
        """The router; somebody gives the canary everything, once."""

        def __getattr__(self, name: str) -> object:
            return getattr(router, name)

        def drifted(self, model: str) -> str | None:
            path = router._path(model)
            text = path.read_text()
            if f'"weight": {100 - CANARY_PCT}' in text and not edited:
                edited.append(text)
                path.write_text(text.replace(f'"weight": {100 - CANARY_PCT}', '"weight": 1'))
            return router.drifted(model)

    platform = replace(rollouts.platform, router=Edited())  # type: ignore[arg-type]
    assert rollouts.roll_out(version, replace(NO_SHADOW, probes=True), platform).finished
    assert edited
    assert "put right" in capsys.readouterr().err
    back_to(rollouts, steady)
