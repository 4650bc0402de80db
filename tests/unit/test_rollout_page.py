"""The page about a rollout."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from headrace.domain.rollout import Action, Look
from headrace.learning import rollout_pictures as pictures
from headrace.learning.rollout_page import render
from tests.unit.made_up_rollouts import BEGAN, Made, erring_at, made

GOOD, BAD, SHIFTED = made(), made(erring_at(10)), made(lambda state: {"low": 0.75, "middle": 0.9})
BEGUN = made(looks=0)


class Outline(HTMLParser):
    """The tags of a page, and its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(one: Made) -> Outline:
    return Outline(render("flight_delay", one.state, one.looks))


@pytest.mark.parametrize("one", [GOOD, BAD, SHIFTED, BEGUN])
def test_page_needs_nothing_from_the_network(one: Made):
    page = render("flight_delay", one.state, one.looks)
    assert not re.search(r"https?://|url\((?!#)|@import", page)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in outline(one).tags}


def test_page_tells_how_it_ended_and_why():
    text = outline(BAD).text
    assert "TAKEN BACK" in text
    assert BAD.state.reason in text
    assert "FINISHED" in outline(GOOD).text


def test_every_decision_is_in_the_table():
    text = outline(GOOD).text
    for look in GOOD.looks:
        if look.action.kind != "hold":
            assert look.action.reason in text


def test_shadow_is_hatched_and_no_other_step_is():
    bands = pictures.timeline(GOOD.state, GOOD.looks).bands
    assert [(band.step, band.shadow) for band in bands] == [
        ("shadow", True),
        ("1 %", False),
        ("10 %", False),
        ("50 %", False),
    ]
    assert [band.x for band in bands][1:] == [pytest.approx(band.x + band.width) for band in bands][:-1]


@pytest.mark.parametrize(("one", "end"), [(GOOD, 0.0), (BAD, pictures.HEIGHT)])
def test_line_ends_at_all_traffic_or_none(one: Made, end: float):
    drawn = pictures.timeline(one.state, one.looks)
    assert drawn.line.split()[-1] == f"{pictures.WIDTH},{end}"


def test_line_of_a_rollout_under_way_ends_at_its_share():
    one = made(looks=10)
    drawn = pictures.timeline(one.state, one.looks)
    assert drawn.line.split()[-1] == f"{drawn.last_x},{drawn.levels[1]}"


def test_higher_share_is_drawn_higher():
    levels = pictures.timeline(GOOD.state, GOOD.looks).levels
    assert sorted(levels, key=lambda pct: levels[pct]) == sorted(levels, reverse=True)


def test_whisker_of_a_failed_metric_is_beyond_its_limit():
    failed = next(one for one in BAD.looks[-1].action.findings if one.outcome == "fail")
    drawn = pictures.whisker(failed)
    assert drawn is not None
    assert 50 < pictures.limit(failed) < drawn.low < drawn.value <= drawn.high <= 100


def test_metric_of_which_nothing_was_seen_has_no_whisker():
    unseen = replace(BAD.looks[-1].action.findings[0], new=None)
    assert pictures.whisker(unseen) is None


def test_metric_that_failed_is_the_first_chart():
    assert pictures.charts(BAD.state, BAD.looks)[0].metric == "errors"
    assert pictures.charts(SHIFTED.state, SHIFTED.looks)[0].metric == "scores"


def test_page_of_very_many_looks_stays_small_and_keeps_every_decision():
    held = GOOD.looks[0]
    looks = [replace(held, at=BEGAN + n) for n in range(20_000)]
    looks.append(replace(GOOD.looks[3], at=BEGAN + 20_000))
    page = render("flight_delay", GOOD.state, looks)
    assert len(page) < 500_000
    assert GOOD.looks[3].action.reason in page
    assert len(pictures.timeline(GOOD.state, looks).dots) <= 302


def test_what_came_in_is_escaped():
    word = Look(BEGAN + 1, "<i>step", "<i>traffic", 10, Action("hold", "paused by <script>alert(1)</script>"))
    page = render("flight_delay", replace(GOOD.state, approved_by="<b>ann"), [word])
    assert "<script" not in page
    assert "<i>" not in page
    assert "<b>ann" not in page


def test_page_before_the_first_look_can_be_made():
    assert "There was nothing to compare." in outline(BEGUN).text
