"""The page about one verdict: a single HTML file that needs nothing from the network."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.domain.contract import Contract
from headrace.domain.gate import GatePolicy, Verdict
from headrace.domain.metrics import BUSINESS_VALUE, LOWER_IS_BETTER, ZERO_IS_BEST
from headrace.domain.resampling import Interval
from headrace.domain.scoring import Evaluation, GroupScore
from headrace.domain.wording import aligned, minute, ranged, signed, told

_TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class Whisker:
    """A difference on a shared scale: positions in percent of the width, 50 is no difference."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class MetricRow:
    """A line of the metrics table."""

    name: str
    note: str
    primary: bool
    challenger: str
    champion: str
    difference: str
    tone: str


@dataclass(frozen=True)
class GroupRow:
    """A line of the slices table; `state` is failed, small or empty."""

    score: GroupScore
    challenger: str
    champion: str
    difference: str
    whisker: Whisker | None
    state: str


def render(
    contract: Contract,
    evaluation: Evaluation,
    verdict: Verdict,
    facts: Mapping[str, str],
    pictures: Mapping[str, bytes],
    policy: GatePolicy | None = None,
) -> str:
    """Render the page.

    Args:
        contract: of the model.
        evaluation: what was measured.
        verdict: what was decided from it.
        facts: lineage and parameters, name to value, shown at the end in this order.
        pictures: title to PNG, see `headrace.learning.pictures`.
        policy: what was decided by; with it the slices show which groups broke the rule and which were too small.

    Returns:
        HTML; every text that came in is escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"told": told, "minute": minute}
    return environment.get_template(_TEMPLATE).render(
        contract=contract,
        evaluation=evaluation,
        verdict=verdict,
        compared=evaluation.champion is not None,
        metrics=_metric_rows(contract, evaluation),
        groups=_group_rows(evaluation, policy),
        facts=facts,
        pictures={title: base64.b64encode(content).decode() for title, content in pictures.items()},
    )


def _metric_rows(contract: Contract, evaluation: Evaluation) -> list[MetricRow]:
    champion = evaluation.champion or {}
    names = sorted({*evaluation.challenger, *champion}, key=lambda name: (name != evaluation.metric, name))
    return [
        MetricRow(
            name=evaluation.business_value if name == BUSINESS_VALUE else name.replace("_", " "),
            note=_note(contract, name),
            primary=name == evaluation.metric,
            challenger=ranged(evaluation.challenger.get(name), aligned),
            champion=ranged(champion.get(name), aligned),
            difference=ranged(evaluation.differences.get(name), _change),
            tone=_tone(evaluation.differences.get(name)),
        )
        for name in names
    ]


def _change(number: float | None) -> str:
    return signed(number, aligned)


def _note(contract: Contract, metric: str) -> str:
    if metric == BUSINESS_VALUE:
        return contract.business_value.unit
    unit = contract.label.unit if metric in ("rmse", "mae") else ""
    best = "0 is best" if metric in ZERO_IS_BEST else "lower is better" if metric in LOWER_IS_BETTER else ""
    return ", ".join(part for part in (unit, best) if part)


def _tone(found: Interval | None) -> str:
    """Coloured only where the interval is on one side of no difference."""
    if found is None:
        return ""
    return "better" if found.low > 0 else "worse" if found.high < 0 else ""


def _group_rows(evaluation: Evaluation, policy: GatePolicy | None) -> list[GroupRow]:
    """Worst difference first; without a champion, or a value, by slice and name at the end."""
    ordered = sorted(
        evaluation.groups,
        key=lambda g: (g.difference is None, g.difference.value if g.difference else 0.0, g.slice, g.group),
    )
    scale = _scale(ordered, policy)
    return [
        GroupRow(
            score=group,
            challenger=aligned(group.challenger),
            champion=aligned(group.champion),
            difference=ranged(group.difference, _change),
            whisker=_whisker(group.difference, scale),
            state=_state(group, evaluation, policy),
        )
        for group in ordered
    ]


def _state(group: GroupScore, evaluation: Evaluation, policy: GatePolicy | None) -> str:
    if policy is None or evaluation.champion is None:
        return ""
    if group.rows < policy.slice_min_rows:
        return "small"
    kept = group.difference is not None and group.difference.value >= -policy.slice_margin
    return "" if kept else "failed"


def _scale(groups: Sequence[GroupScore], policy: GatePolicy | None) -> float:
    """Half the width of the whiskers' scale, in the metric's unit: groups that are too small must not stretch it."""
    least = policy.slice_min_rows if policy else 1
    found = [g.difference for g in groups if g.difference and g.rows >= least]
    return max((abs(end) for one in found for end in (one.low, one.value, one.high)), default=0.0)


def _whisker(found: Interval | None, scale: float) -> Whisker | None:
    if found is None or not scale > 0:
        return None
    low, value, high = (
        round(50 + 48 * max(-1.0, min(1.0, end / scale)), 1) for end in (found.low, found.value, found.high)
    )
    return Whisker(low, value, high)
