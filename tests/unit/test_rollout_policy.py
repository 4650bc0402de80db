"""Which policies are refused, and what is told about it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from headrace.domain.evidence import Limits
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep

DEFAULT = Path(__file__).parents[2] / "conf/rollout/default.yaml"


def steps(shares: Sequence[int]) -> tuple[RolloutStep, ...]:
    return tuple(RolloutStep(weight_pct=one) if one else RolloutStep(shadow_pct=100) for one in shares)


@pytest.mark.parametrize("shares", [[0], [0, 0, 1], [1, 10, 50], [99], [0, 99]])
def test_shadows_come_first_and_shares_ascend(shares: Sequence[int]):
    assert len(RolloutPolicy(steps(shares)).steps) == len(shares)


@pytest.mark.parametrize("shares", [[], [50, 5], [5, 5], [5, 0], [0, 10, 1]])
def test_any_other_order_is_refused(shares: Sequence[int]):
    with pytest.raises(ValueError, match="ascend"):
        RolloutPolicy(steps(shares))


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({}, "either weight_pct 0 or shadow_pct 0"),
        ({"weight_pct": 5, "shadow_pct": 5}, "either weight_pct 5 or shadow_pct 5"),
        ({"weight_pct": 100}, "weight_pct 100 is not within 1 and 99"),
        ({"weight_pct": -1, "shadow_pct": 5}, "weight_pct -1"),
        ({"shadow_pct": 101}, "shadow_pct 101 is not within 1 and 100"),
        ({"shadow_pct": -1, "weight_pct": 5}, "shadow_pct -1"),
        ({"weight_pct": 5, "min_requests": 0}, "min_requests 0 must be at least 1: a step needs evidence"),
        ({"weight_pct": 5, "hold_s": 60.0, "timeout_s": 60.0}, "hold_s 60"),
        ({"weight_pct": 5, "hold_s": -1.0}, "hold_s -1"),
        ({"weight_pct": 5, "timeout_s": float("inf")}, "timeout_s inf"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(bad: Mapping[str, Any], word: str):
    with pytest.raises(ValueError, match=word):
        RolloutStep(**bad)


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"error_budget": 0.0}, "error_budget 0.0"),
        ({"error_budget": 0.6}, "error_budget 0.6"),
        ({"error_budget": float("nan")}, "error_budget nan"),
        ({"interval_s": 0.0}, "interval_s 0.0"),
        ({"interval_s": float("nan")}, "interval_s nan"),
        ({"approval_timeout_s": float("inf")}, "approval_timeout_s inf"),
        ({"ready_timeout_s": -1.0}, "ready_timeout_s -1.0"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(bad: Mapping[str, Any], word: str):
    with pytest.raises(ValueError, match=word):
        RolloutPolicy(steps([1]), **bad)


@pytest.mark.parametrize("name", [*vars(Limits())])
@pytest.mark.parametrize("bad", [-0.01, 1.0, float("nan")])
def test_a_limit_is_a_share(name: str, bad: float):
    with pytest.raises(ValueError, match=rf"limits\.{name} {bad}"):
        Limits(**{name: bad})


def test_steps_are_told_by_their_share():
    assert [one.describe() for one in steps([0, 5])] == ["shadow", "5 %"]


def test_the_default_begins_with_a_shadow_and_allows_what_the_code_does():
    policy = TypeAdapter(RolloutPolicy).validate_python(yaml.safe_load(DEFAULT.read_text()))
    assert [one.describe() for one in policy.steps] == ["shadow", "1 %", "10 %", "50 %"]
    assert policy.limits == Limits()


@pytest.mark.parametrize("where", [(), ("limits",), ("steps", 0)])
def test_a_key_that_nobody_knows_is_refused(where: Sequence[Any]):
    policy = yaml.safe_load(DEFAULT.read_text())
    inner = policy
    for key in where:
        inner = inner[key]
    inner["patience"] = 1
    with pytest.raises(ValidationError, match="patience"):
        TypeAdapter(RolloutPolicy).validate_python(policy)
