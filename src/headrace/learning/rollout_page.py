"""The page about one rollout: a single HTML file that needs nothing from the network."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from headrace.domain.rollout import Look, RolloutState
from headrace.domain.rollout_story import answered, chapters, last_findings, lasting
from headrace.learning import rollout_pictures as pictures

_TEMPLATE = "rollout.html.j2"
# The oldest rows are left out where there are very many.
_MOST_ROWS = 500


def render(model: str, state: RolloutState, looks: Sequence[Look]) -> str:
    """Render the page.

    Args:
        model: whose rollout.
        state: as it is now, or ended.
        looks: all of them, in order.

    Returns:
        HTML; every text that came in is escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"moment": _moment, "pct": _pct, "points": _points, "lasting": lasting}
    rows = chapters(state, looks)
    return environment.get_template(_TEMPLATE).render(
        model=model,
        state=state,
        timeline=pictures.timeline(state, looks),
        findings=[(one, pictures.whisker(one), pictures.limit(one)) for one in last_findings(looks)],
        charts=pictures.charts(state, looks),
        chart_width=pictures.CHART_WIDTH,
        chart_height=pictures.CHART_HEIGHT,
        rows=rows[-_MOST_ROWS:],
        left_out=max(len(rows) - _MOST_ROWS, 0),
        look_count=len(looks),
        answered=answered(looks),
    )


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def _pct(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"
