"""The report: everything that was judged is on the page, and nothing on it comes from elsewhere."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.domain.contract import Budgets, BusinessValue, Contract, Feature, Label, LabelDelay, Rows
from headrace.domain.gate import Reason, Verdict
from headrace.domain.resampling import Interval
from headrace.domain.scoring import GroupScore
from headrace.learning.pictures import draw
from headrace.learning.report import render
from tests.unit.evaluations import METRICS, POLICIES, TASKS, alone, around, evaluation, judge

PNG = b"\x89PNG\r\n\x1a\n"
TITLES = {
    "binary": {"ROC", "Precision and recall", "Calibration", "Gain"},
    "multiclass": {"Confusion", "Calibration"},
    "regression": {"Predicted and observed", "Residuals", "Calibration"},
}


def contract(task: Any) -> Contract:
    return Contract(
        model="flight_delay",
        description="Will it be late?",
        task=task,
        rows=Rows("rows", "dvc.yaml", "key", "decision_time"),
        label=Label("late", "", "t", LabelDelay(1, 2, 3), classes=("a", "b", "c") if task == "multiclass" else ()),
        features=(Feature("carrier", "category", "", values=("AA", "UA")),),
        metric=next(iter(METRICS[task])),
        business_value=BusinessValue("minutes caught", "min", ""),
        budgets=Budgets(50, 5),
        example={"carrier": "AA"},
    )


def page(task: str, found: Any = None, **changes: Any) -> str:
    found = found or evaluation(task)
    setup: dict[str, Any] = {"facts": {}, "pictures": {}, "policy": POLICIES[task]} | changes
    return render(contract(task), found, setup.pop("verdict", judge(task, found)), **setup)


@pytest.mark.parametrize("task", TASKS)
def test_page_tells_the_verdict_every_rule_and_every_metric(task: str) -> None:
    found = evaluation(task)
    html = page(task)
    assert ">PROMOTED<" in html
    assert "v3, learnt until 2013-04-02 00:00" in html
    for reason in judge(task, found).reasons:
        assert reason.sentence.replace("'", "&#39;") in html
    for metric in METRICS[task]:
        assert (found.business_value if metric == "business_value" else metric.replace("_", " ")) in html


def test_rejection_marks_the_broken_rules() -> None:
    html = page("binary", replace(evaluation("binary"), parity_flips=7))
    assert ">REJECTED<" in html
    assert html.count('<tr class="failed">') == 1
    assert "7 decisions changed by the export" in html


def test_without_a_champion_there_is_nothing_to_compare() -> None:
    html = page("binary", alone("binary"))
    assert "none yet" in html
    assert "Difference" not in html


def test_slices_are_worst_first_with_broken_ones_marked_and_small_ones_grey() -> None:
    groups = (
        GroupScore("carrier", "Fine", 900, 0.7, 0.69, around(0.01, 0.01)),
        GroupScore("carrier", "Tiny", 10, 0.4, 0.6, Interval(-0.2, -0.4, 0.1)),
        GroupScore("carrier", "Unknown", 900, None, None, None),
        GroupScore("carrier", "Worse", 900, 0.6, 0.7, around(-0.1, 0.01)),
    )
    html = page("binary", replace(evaluation("binary"), groups=groups)).split("Slices, by auc")[1]
    rows = re.findall(r"<tr(?: class=\"(\w+)\")?>\s*<td>carrier</td><td>(\w+)</td>", html)
    assert rows == [("small", "Tiny"), ("failed", "Worse"), ("", "Fine"), ("failed", "Unknown")]


def test_every_text_is_escaped() -> None:
    evil = "<script>alert('x')</script>"
    reason = Reason(evil, False, evil)
    html = page(
        "binary",
        replace(evaluation("binary"), groups=(GroupScore(evil, evil, 900, 0.7, 0.6, around(0.1, 0.1)),)),
        verdict=Verdict(False, (reason,)),
        facts={evil: evil},
        pictures={evil: PNG},
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 7


def test_page_needs_nothing_from_elsewhere() -> None:
    html = page("binary", pictures={"ROC": PNG}, facts={"source": "https://example.org/data"})
    assert re.findall(r"(?:src|href)=\"(?!data:image/png;base64,)", html) == []
    assert "url(" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html


@pytest.mark.parametrize("task", TASKS)
def test_missing_numbers_still_make_a_page(task: str) -> None:
    found = replace(
        evaluation(task),
        challenger={},
        champion={},
        differences={},
        champion_learnt_until=None,
        latency_ms_p99=None,
        groups=(GroupScore("carrier", "UA", 900, None, None, None),),
    )
    html = page(task, found, policy=None)
    assert ">REJECTED<" in html
    assert "no value" in html


def answers(task: str, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    if task == "multiclass":
        return random.integers(0, 3, count), {f"model {at}": random.dirichlet(np.ones(3), count) for at in range(2)}
    y = random.integers(0, 2, count) if task == "binary" else random.gamma(2, 90, count)
    return y, {f"model {at}": random.random(count) * (1 if task == "binary" else 300) for at in range(2)}


@pytest.mark.parametrize("task", TASKS)
def test_pictures_of_a_task_are_small_pngs(task: str) -> None:
    y, predictions = answers(task, 3000)
    found = draw(contract(task), y, predictions, {"model 0": np.ones(3000)}, {"carrier": 0.02, "dest": -0.001})
    assert set(found) == TITLES[task] | {"Business value", "Importance"}
    assert all(picture.startswith(PNG) and len(picture) < 60_000 for picture in found.values())


def test_equal_answers_give_equal_pictures() -> None:
    first, second = (draw(contract("binary"), [], {}, {}, {"carrier": 0.1, "dest": 0.2}) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("task", TASKS)
def test_model_with_a_prediction_that_is_not_finite_is_not_drawn(task: str) -> None:
    y, predictions = answers(task, 50)
    for prediction in predictions.values():
        prediction[3] = np.nan
    assert set(draw(contract(task), y, predictions, {}, {"carrier": 0.1})) == {"Importance"}


@pytest.mark.parametrize("task", TASKS)
def test_rows_that_are_all_alike_can_be_drawn(task: str) -> None:
    _, predictions = answers(task, 5)
    same = {name: np.repeat(prediction[:1], 5, axis=0) for name, prediction in predictions.items()}
    assert set(draw(contract(task), np.zeros(5), same, {}, {})) == TITLES[task]
