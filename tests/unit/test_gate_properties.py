"""The gate by property: missing evidence never promotes, improving never rejects, and every rule is always told."""

import math
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.resampling import Interval
from headrace.domain.scoring import Evaluation, GroupScore
from tests.unit.evaluations import (
    AUGUST,
    JULY,
    LOWER_IS_BETTER,
    METRICS,
    POLICIES,
    RELATIVE_RULES,
    RULES,
    TASKS,
    evaluation,
    judge,
    scored,
)

NOT_A_NUMBER = st.sampled_from([math.nan, math.inf, -math.inf])


@given(task=st.sampled_from(TASKS), number=NOT_A_NUMBER, data=st.data())
def test_never_promotes_when_a_number_is_not_finite(task: str, number: float, data: st.DataObject) -> None:
    found = evaluation(task)
    side = data.draw(st.sampled_from(["challenger", "champion", "differences", "groups", "scalar"]))
    end = data.draw(st.sampled_from(["value", "low", "high"]))
    if side == "groups":
        group = found.groups[0]
        assert group.difference is not None
        spoilt = data.draw(
            st.sampled_from(
                [
                    replace(group, difference=replace(group.difference, **{end: number})),
                    replace(group, challenger=number),
                    replace(group, champion=number),
                ]
            )
        )
        found = replace(found, groups=(spoilt,))
    elif side == "scalar":
        name = data.draw(st.sampled_from(["parity_max_difference", "latency_ms_p99", "size_mb", "confidence"]))
        found = replace(found, **{name: number})
    else:
        metric = data.draw(st.sampled_from(sorted(getattr(found, side))))
        found = scored(found, side, metric, replace(getattr(found, side)[metric], **{end: number}))
    assert not judge(task, found).promote


@given(task=st.sampled_from(TASKS), data=st.data())
def test_never_promotes_when_evidence_is_missing(task: str, data: st.DataObject) -> None:
    found = evaluation(task)
    name = data.draw(
        st.sampled_from(
            [
                *("challenger", "champion", "differences", "champion_version", "champion_learnt_until"),
                *("parity_max_difference", "latency_ms_p99", "size_mb", "rows"),
            ]
        )
    )
    kept: object = None
    if name in ("challenger", "champion", "differences"):
        judged = {found.metric, "calibration_error", *POLICIES[task].secondary_margin}
        lost = data.draw(st.sets(st.sampled_from(sorted(judged)), min_size=1))
        kept = {metric: value for metric, value in getattr(found, name).items() if metric not in lost}
    found = replace(found, **{name: 0 if name == "rows" else kept})
    assert not judge(task, found).promote


FLOATS = st.floats(allow_nan=True, allow_infinity=True)
INTERVALS = st.builds(Interval, FLOATS, FLOATS, FLOATS)


@st.composite
def any_evaluation(draw: st.DrawFn, task: str) -> Evaluation:
    """Anything that the types allow."""
    names = st.sampled_from([*METRICS[task], "log_loss", "calibration_gap"])
    found = st.dictionaries(names, INTERVALS)
    groups = st.builds(
        GroupScore,
        slice=st.just("carrier"),
        group=st.sampled_from(["AA", "UA"]),
        rows=st.integers(0, 2000),
        challenger=st.none() | FLOATS,
        champion=st.none() | FLOATS,
        difference=st.none() | INTERVALS,
    )
    moments = st.sampled_from([JULY - timedelta(days=1), JULY, AUGUST])
    return replace(
        evaluation(task),
        rows=draw(st.integers(0, 5000)),
        holdout_start=draw(moments),
        holdout_end=draw(moments),
        challenger=draw(found),
        champion=draw(st.none() | found),
        differences=draw(found),
        groups=tuple(draw(st.lists(groups, max_size=3))),
        challenger_learnt_until=draw(moments),
        champion_version=draw(st.none() | st.integers(1, 9)),
        champion_learnt_until=draw(st.none() | moments),
        parity_flips=draw(st.integers(-1, 2)),
        parity_max_difference=draw(st.none() | FLOATS),
    )


@given(task=st.sampled_from(TASKS), data=st.data())
def test_every_rule_is_reported_whatever_the_evidence(task: str, data: st.DataObject) -> None:
    verdict = judge(task, data.draw(any_evaluation(task)))
    rules = [reason.rule for reason in verdict.reasons]
    secondary = [f"secondary.{metric}" for metric in sorted(POLICIES[task].secondary_margin)]
    assert rules in (RULES, [*RULES, *RELATIVE_RULES, *secondary, "slices"])
    assert verdict.promote == all(reason.passed for reason in verdict.reasons)
    assert all(reason.sentence for reason in verdict.reasons)
    assert "\n" not in verdict.summary


def shifted(found: Interval, by: float) -> Interval:
    return Interval(found.value + by, found.low + by, found.high + by)


PAIRS = st.fixed_dictionaries({"auc": st.floats(-0.04, 0.06), "brier": st.floats(-0.02, 0.02)})


@given(changes=PAIRS, better=st.floats(0, 0.1))
def test_improving_the_challenger_never_turns_a_promotion_into_a_rejection(
    changes: dict[str, float], better: float
) -> None:
    auc, brier = 0.72 + changes["auc"], 0.187 - changes["brier"]
    found = evaluation(
        "binary", {"auc": (auc, 0.72), "brier": (brier, 0.187), "calibration_error": (0.03 + changes["brier"], 0.03)}
    )
    improved = replace(
        found,
        challenger={
            name: shifted(value, -min(better, value.value) if name in LOWER_IS_BETTER else better)
            for name, value in found.challenger.items()
        },
        differences={name: shifted(value, better) for name, value in found.differences.items()},
        groups=tuple(
            replace(group, difference=shifted(group.difference, better)) if group.difference else group
            for group in found.groups
        ),
    )
    assert not judge("binary", found).promote or judge("binary", improved).promote


@given(changes=PAIRS)
def test_two_models_never_both_replace_each_other(changes: dict[str, float]) -> None:
    pairs = {
        "auc": (0.72 + changes["auc"], 0.72),
        "brier": (0.187 - changes["brier"], 0.187),
        "calibration_error": (0.03, 0.03),
    }
    swapped = {name: (old, new) for name, (new, old) in pairs.items()}
    assert not (
        judge("binary", evaluation("binary", pairs)).promote and judge("binary", evaluation("binary", swapped)).promote
    )
