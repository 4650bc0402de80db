"""The gate by example: what it promotes, what it refuses, and what it says."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml

from headrace.documents import bind, read_json, write_json
from headrace.domain.gate import GatePolicy, Reason, Verdict, decide
from headrace.domain.resampling import Interval
from headrace.domain.scoring import Evaluation, GroupScore
from headrace.errors import UsageError
from tests.unit.evaluations import (
    BUDGETS,
    JULY,
    METRICS,
    RULES,
    TASKS,
    alone,
    around,
    broken,
    evaluation,
    judge,
    scored,
)

CONF = Path(__file__).parents[2] / "conf" / "gate"


@pytest.mark.parametrize("task", TASKS)
def test_better_challenger_is_promoted(task: str) -> None:
    verdict = judge(task, evaluation(task))
    assert broken(verdict) == set()
    assert verdict.promote


@pytest.mark.parametrize("task", TASKS)
def test_first_challenger_needs_only_the_absolute_rules(task: str) -> None:
    verdict = judge(task, alone(task))
    assert verdict.promote
    assert [reason.rule for reason in verdict.reasons] == RULES


def test_july_is_promoted_by_the_shipped_policy() -> None:
    pairs = METRICS["binary"] | {"business_value": (96_136.0, 88_288.0)}
    verdict = decide(shipped("default"), BUDGETS, evaluation("binary", pairs))
    assert verdict.promote
    assert verdict.summary.startswith("promoted, all 15 rules kept: auc 0.767 against champion v3's 0.732")


def test_december_is_rejected_by_the_shipped_policy_for_its_calibration() -> None:
    pairs = {
        "auc": (0.706, 0.703),
        "brier": (0.1992, 0.1961),
        "calibration_error": (0.068, 0.049),
        "business_value": (75_161.0, 77_118.0),
    }
    verdict = decide(shipped("default"), BUDGETS, evaluation("binary", pairs))
    assert broken(verdict) == {"calibration"}
    assert "calibration_error 0.068, at most 0.06 allowed" in verdict.summary


def test_shipped_regression_policy_promotes_a_better_forecast() -> None:
    assert decide(shipped("regression"), BUDGETS, evaluation("regression")).promote


def shipped(name: str) -> GatePolicy:
    return bind(GatePolicy, yaml.safe_load((CONF / f"{name}.yaml").read_text()), f"{name}.yaml")


@pytest.mark.parametrize("task", TASKS)
def test_tie_keeps_champion(task: str) -> None:
    same = {name: (pair[1], pair[1]) for name, pair in METRICS[task].items()}
    assert broken(judge(task, evaluation(task, same))) == {"gain"}


@pytest.mark.parametrize("task", TASKS)
def test_champion_compared_with_itself_is_rejected(task: str) -> None:
    same = evaluation(task, {name: (pair[1], pair[1]) for name, pair in METRICS[task].items()})
    verdict = judge(task, replace(same, differences=dict.fromkeys(same.differences, Interval(0.0, 0.0, 0.0))))
    assert broken(verdict) == {"identity", "gain"}


ONE_BROKEN_RULE: list[tuple[str, Callable[[Evaluation], Evaluation]]] = [
    ("rows", lambda e: replace(e, rows=999)),
    ("evidence", lambda e: replace(e, confidence=0.9)),
    ("evidence", lambda e: replace(e, champion_version=None)),
    ("independence", lambda e: replace(e, challenger_learnt_until=JULY + timedelta(seconds=1))),
    ("independence", lambda e: replace(e, champion_learnt_until=JULY + timedelta(seconds=1))),
    ("independence", lambda e: replace(e, champion_learnt_until=None)),
    ("independence", lambda e: replace(e, holdout_end=e.holdout_start)),
    ("floor", lambda e: scored(e, "challenger", "auc", Interval(0.767, 0.599, 0.78))),
    ("calibration", lambda e: scored(e, "challenger", "calibration_error", Interval(0.061, 0.05, 0.07))),
    ("calibration_change", lambda e: scored(e, "champion", "calibration_error", Interval(0.001, 0.0, 0.002))),
    ("parity", lambda e: replace(e, parity_flips=1)),
    ("parity", lambda e: replace(e, parity_max_difference=None)),
    ("latency", lambda e: replace(e, latency_ms_p99=50.1)),
    ("latency", lambda e: replace(e, latency_ms_p99=None)),
    ("size", lambda e: replace(e, size_mb=5.1)),
    ("size", lambda e: replace(e, size_mb=math.nan)),
    ("non_inferiority", lambda e: scored(e, "differences", "auc", Interval(0.035, -0.006, 0.05))),
    ("gain", lambda e: scored(e, "differences", "auc", Interval(0.0, -0.004, 0.05))),
    ("secondary.brier", lambda e: scored(e, "differences", "brier", Interval(0.01, -0.006, 0.05))),
    ("slices", lambda e: replace(e, groups=(GroupScore("carrier", "UA", 500, 0.6, 0.7, around(-0.051, 0.01)),))),
    ("slices", lambda e: replace(e, groups=(GroupScore("carrier", "UA", 500, None, 0.7, None),))),
]


@pytest.mark.parametrize(("rule", "spoil"), ONE_BROKEN_RULE)
def test_one_broken_rule_rejects_and_names_itself(rule: str, spoil: Callable[[Evaluation], Evaluation]) -> None:
    verdict = judge("binary", spoil(evaluation("binary")))
    assert broken(verdict) == {rule}
    assert not verdict.promote


def test_small_groups_are_not_judged() -> None:
    worse = GroupScore("carrier", "HA", 499, 0.4, 0.7, around(-0.3, 0.1))
    assert judge("binary", replace(evaluation("binary"), groups=(worse,))).promote


def test_broken_slice_is_named_with_its_numbers() -> None:
    worse = GroupScore("carrier", "MQ", 1987, 0.64, 0.7, around(-0.06, 0.01))
    (reason,) = judge("binary", replace(evaluation("binary"), groups=(worse,))).failed
    assert "carrier MQ -0.06 (1,987 rows)" in reason.sentence


def test_lower_is_better_for_a_regressions_floor() -> None:
    found = scored(evaluation("regression"), "challenger", "rmse", Interval(88.0, 85.0, 90.1))
    assert broken(judge("regression", found)) == {"floor"}


def test_margin_of_business_value_is_a_share_of_the_champions() -> None:
    found = evaluation("regression")
    kept = scored(found, "differences", "business_value", Interval(-100.0, -469.0, 300.0))
    lost = scored(found, "differences", "business_value", Interval(-100.0, -471.0, 300.0))
    assert judge("regression", kept).promote
    assert broken(judge("regression", lost)) == {"secondary.business_value"}


def test_half_a_champion_is_not_judged_as_none() -> None:
    found = alone("binary")
    assert not judge("binary", replace(found, champion_version=3)).promote
    assert not judge("binary", replace(found, champion={})).promote
    assert not judge("binary", replace(found, champion_learnt_until=JULY)).promote
    assert not judge("binary", replace(found, differences=evaluation("binary").differences)).promote


def test_metric_of_another_task_is_no_evidence() -> None:
    assert "evidence" in broken(judge("binary", replace(evaluation("binary"), metric="rmse")))


def test_verdict_cannot_promote_over_a_broken_rule() -> None:
    with pytest.raises(ValueError, match="all of them are kept"):
        Verdict(True, (Reason("rows", False, "3 rows"),))
    with pytest.raises(ValueError, match="there are rules"):
        Verdict(True, ())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_rows", 0),
        ("slice_min_rows", 0),
        ("floor", math.nan),
        ("non_inferiority_margin", -0.1),
        ("non_inferiority_margin", math.inf),
        ("slice_margin", math.nan),
        ("min_gain", -0.01),
        ("secondary_margin", {"brier": math.nan}),
        ("secondary_margin", {"brieer": 0.1}),
        ("confidence", 1.0),
        ("resamples", 10),
        ("flor", 0.6),
    ],
)
def test_policy_that_would_allow_anything_is_a_usage_error(key: str, value: object) -> None:
    data = yaml.safe_load((CONF / "default.yaml").read_text()) | {key: value}
    with pytest.raises(UsageError, match=key if key != "secondary_margin" else "brie"):
        bind(GatePolicy, data, "default.yaml")


def test_evaluation_and_verdict_survive_json(tmp_path: Path) -> None:
    for task in TASKS:
        for found in (evaluation(task), alone(task)):
            verdict = judge(task, found)
            write_json(tmp_path / "evaluation.json", found)
            write_json(tmp_path / "verdict.json", verdict)
            assert read_json(Evaluation, tmp_path / "evaluation.json") == found
            assert read_json(Verdict, tmp_path / "verdict.json") == verdict


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        replace(evaluation("binary"), holdout_start=datetime(2013, 7, 1))
