"""Evaluations for tests: for every task a challenger that is better than champion v3, to be spoilt by one fact.

And labels with predictions to make others from.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from headrace.domain.contract import Budgets
from headrace.domain.gate import GatePolicy, Verdict, decide
from headrace.domain.resampling import Interval
from headrace.domain.scoring import Evaluation, GroupScore

JULY, AUGUST = datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 8, 1, tzinfo=UTC)
BUDGETS = Budgets(latency_ms_p99=50, size_mb=5)
LOWER_IS_BETTER = {"log_loss", "brier", "calibration_error", "rmse", "mae"}

POLICIES = {
    "binary": GatePolicy(1000, 0.60, 0.005, 0.05, 500, 0.06, 0.02, secondary_margin={"brier": 0.005}),
    "multiclass": GatePolicy(1000, 1.0, 0.01, 0.2, 500, 0.06, 0.02, secondary_margin={"accuracy": 0.01}),
    "regression": GatePolicy(
        300, 90.0, 3.0, 10.0, 100, 0.35, 0.05, secondary_margin={"mae": 3.0, "business_value": 0.1}
    ),
}
METRICS = {
    "binary": {"auc": (0.767, 0.732), "brier": (0.1744, 0.1868), "calibration_error": (0.022, 0.049)},
    "multiclass": {"log_loss": (0.61, 0.68), "accuracy": (0.78, 0.74), "calibration_error": (0.03, 0.04)},
    "regression": {
        "rmse": (62.0, 71.0),
        "mae": (41.0, 47.0),
        "calibration_error": (0.12, 0.2),
        "business_value": (-4100.0, -4700.0),
    },
}
TASKS = list(METRICS)
RULES = ["rows", "evidence", "independence", "floor", "calibration", "parity", "latency", "size"]
RELATIVE_RULES = ["identity", "non_inferiority", "gain", "calibration_change"]


def around(value: float, width: float) -> Interval:
    return Interval(value, value - width, value + width)


def gain(metric: str, pair: tuple[float, float]) -> float:
    return pair[1] - pair[0] if metric in LOWER_IS_BETTER else pair[0] - pair[1]


def evaluation(task: str, pairs: Mapping[str, tuple[float, float]] | None = None) -> Evaluation:
    """A challenger (first of each pair) and champion v3; intervals are a twentieth of the challenger's value wide."""
    pairs = pairs or METRICS[task]
    metric = next(iter(pairs))
    new, old = pairs[metric]
    change = gain(metric, (new, old))
    return Evaluation(
        task=task,
        metric=metric,
        rows=28_112,
        holdout_start=JULY,
        holdout_end=AUGUST,
        confidence=0.95,
        challenger={name: around(pair[0], abs(pair[0]) / 100) for name, pair in pairs.items()},
        champion={name: around(pair[1], abs(pair[1]) / 100) for name, pair in pairs.items()},
        differences={name: around(gain(name, pair), abs(pair[0]) / 200) for name, pair in pairs.items()},
        groups=(
            GroupScore("carrier", "UA", 4800, new, old, around(change, 0.01)),
            GroupScore("carrier", "HA", 30, None, None, None),
        ),
        challenger_learnt_until=JULY - timedelta(hours=1),
        champion_version=3,
        champion_learnt_until=JULY - timedelta(days=90),
        parity_flips=0,
        parity_max_difference=3e-7,
        latency_ms_p99=1.2,
        size_mb=0.9,
        business_value="minutes caught",
    )


def alone(task: str) -> Evaluation:
    """The same challenger, when there is no champion."""
    found = evaluation(task)
    groups = tuple(replace(group, champion=None, difference=None) for group in found.groups)
    return replace(
        found, champion=None, champion_version=None, champion_learnt_until=None, differences={}, groups=groups
    )


def judge(task: str, found: Evaluation) -> Verdict:
    return decide(POLICIES[task], BUDGETS, found)


def broken(verdict: Verdict) -> set[str]:
    return {reason.rule for reason in verdict.failed}


def scored(found: Evaluation, side: str, metric: str, value: Interval) -> Evaluation:
    """The same with one metric replaced in `challenger`, `champion` or `differences`."""
    return replace(found, **{side: {**getattr(found, side), metric: value}})


def sample(task: str, count: int, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels that depend on the seed only, and predictions that are worse with more noise; every tenth is tied."""
    truth, blur = np.random.default_rng(seed), np.random.default_rng([seed, int(1000 * noise)])
    signal = truth.normal(size=(count, 3))
    answer = signal + noise * blur.normal(size=(count, 3))
    answer[::10] = 0.25
    if task == "regression":
        return 60 + 10 * signal[:, 0], 60 + 10 * answer[:, 0]
    if task == "multiclass":
        odds = np.exp(answer)
        return signal.argmax(axis=1), odds / odds.sum(axis=1, keepdims=True)
    return (truth.random(count) < 1 / (1 + np.exp(-signal[:, 0]))).astype(int), 1 / (1 + np.exp(-answer[:, 0]))
