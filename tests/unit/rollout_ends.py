"""How the rollout of version 2 ends, beside a good version 1: what several files of tests expect of it."""

from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout_policy import RolloutPolicy
from headrace.domain.split import Split
from headrace.errors import Unavailable
from headrace.steps import driver
from tests.unit.rollout_parts import MODEL, Behaviour, half
from tests.unit.rollout_world import POLICY, World, check_end

SHADOW, ONE, TEN, HALF = (
    Split(1, shadow=2, shadow_pct=100),
    *(Split(1, canary=2, canary_pct=pct) for pct in (1, 10, 50)),
)
STEPS = ["shadow", "1 %", "10 %", "50 %"]
SILENT = Unavailable("it does not answer")
BAD: dict[str, Behaviour] = {
    "errors": Behaviour(errors=0.2),
    "refusals": Behaviour(refusals=0.2),
    "slow answers": Behaviour(slow=0.3),
    "bad outputs": Behaviour(bad=0.1),
    "scores": Behaviour(score=lambda n: half(n) + 0.2),
    "disagreement": Behaviour(score=lambda n: 1 - half(n)),
}


def begin(world: World, version: ModelVersion) -> None:
    """As a driver does that is killed right after."""
    directory = world.platform.model_directory(version)
    world.deployer.start(version, directory, 1)
    driver.begin(world.platform, MODEL, version.version, directory, POLICY, world.clock)


def advances(world: World) -> list[str]:
    return [look.step for look in world.looks if look.action.kind == "advance"]


def taken_back(world: World, reason: str, policy: RolloutPolicy = POLICY) -> None:
    """Version 2 is tried and goes back, for this reason."""
    done = world.deploy(world.register(), policy)
    assert not done.finished
    assert reason in done.reason
    assert world.registry.rollout(MODEL, 2) == f"taken back: {done.reason}"
    assert world.route.split == Split(1)
    assert world.champions == [1]
    check_end(world)


def finishes(world: World, policy: RolloutPolicy = POLICY) -> None:
    """Version 2 is tried and gets everything, after all steps."""
    done = world.deploy(world.register(), policy)
    assert done.finished, done.reason
    assert advances(world) == STEPS
    assert world.champions == [1, 2]
    assert world.route.split == Split(2, previous=1)
    check_end(world)
