"""What the soak counts, and what it takes for lost or grown."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.soak import segments
from benchmarks.soak.clients import _judge, mark_of
from benchmarks.soak.complaints import complaints
from benchmarks.soak.events import Seen
from benchmarks.soak.growth import Series, longest, trend
from benchmarks.soak.ledger import Account, Kill, Ledger, Logged, Outcome, account
from benchmarks.soak.material import PAIR, SINGLE, by_key, contract, make_rows
from benchmarks.soak.page import Result, page
from benchmarks.soak.segments import Log
from benchmarks.soak.shots import OK, Shot

IDS = ["0123456789abcdef" + "0" * 16, "00000000000000ff" + "1" * 16]
KILL = Kill("worker", PAIR, at=100.0)


def outcome(number: int, model: str = PAIR, at: float = 50.0, **more) -> Outcome:
    return Outcome("1 row", model, number, at - 0.1, at, 200, **more)


def ledger(*outcomes: Outcome) -> Ledger:
    made = Ledger()
    for one in outcomes:
        made.add(one)
    return made


def test_failure_is_lost_unless_a_process_of_its_model_was_killed_just_then():
    wrong = {"problem": "status 502"}
    made = ledger(
        outcome(1, at=99.0, **wrong),
        outcome(2, at=100.05, **wrong),
        outcome(3, at=101.9, **wrong),
        outcome(4, at=102.2, **wrong),
        outcome(5, model=SINGLE, at=100.05, **wrong),
        outcome(6, at=101.0),
    )
    found = made.failures([KILL])
    assert found.at_kills == {"status 502": 2}
    assert found.requests_at_kills == 3
    assert found.lost == ["1 row to pair: status 502", "1 row to pair: status 502", "1 row to single: status 502"]


def test_predictions_in_the_log_are_the_answered_ones():
    made = ledger(outcome(1, row_count=2, mark=7), outcome(2, row_count=1, mark=9))
    found = account(made, {1: Logged(2, 7), 2: Logged(1, 9)}, [])
    assert found == Account(answered=3, logged=3, equal=3)


def test_prediction_that_is_not_in_the_log_is_explained_by_a_kill_of_its_service_soon_after():
    made = ledger(
        outcome(1, at=98.0, row_count=1),
        outcome(2, at=90.0, row_count=2),
        outcome(3, model=SINGLE, at=99.0, row_count=4),
        outcome(4, at=100.2, row_count=8),
    )
    found = account(made, {}, [KILL])
    assert (found.lost_at_kills, found.missing) == (1 + 8, 2 + 4)
    assert found.latest_lost_s == 2.0


@pytest.mark.parametrize("log", [{1: Logged(2, 6)}, {1: Logged(4, 7)}, {1: Logged(1, 7)}])
def test_log_that_has_others_than_were_answered_is_not_explained(log: dict[int, Logged]):
    found = account(ledger(outcome(1, row_count=2, mark=7)), log, [])
    assert (found.equal, found.unexplained) == (0, log[1].row_count)


def test_log_may_have_what_a_client_did_not_wait_for_and_nothing_else():
    made = ledger(outcome(1, may_be_logged=2), outcome(2, may_be_logged=2))
    found = account(made, {1: Logged(2, 7), 2: Logged(3, 7), 9: Logged(1, 7)}, [])
    assert (found.unanswered, found.unexplained) == (2, 3 + 1)


def shot(**more) -> Shot:
    expected = {1: np.array([0.25, 0.5]), 101: np.array([0.75, 1.0])}
    return Shot("rows", PAIR, "/v1/models/pair/predict", b"", OK, row_count=2, expected=expected, **more)


def answer(version: int, *probabilities: float) -> bytes:
    items = [{"id": one, "probability": value} for one, value in zip(IDS, probabilities, strict=False)]
    return json.dumps({"model": PAIR, "version": version, "predictions": items}).encode()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (answer(1, 0.25, 0.5), ""),
        (answer(101, 0.75, 1.0), ""),
        (answer(101, 0.25, 0.5), "not what version 101 predicts"),
        (answer(1, 0.25), "not a prediction for each row"),
        (answer(7, 0.25, 0.5), "version 7 answered"),
        (b'{"predictions": []}', "unreadable answer: KeyError"),
        (b"{", "unreadable answer: JSONDecodeError"),
    ],
)
def test_answer_is_held_against_what_its_version_predicts(given: bytes, says: str):
    assert _judge(shot(), {}, given)[0] == says


def test_mark_of_an_answer_is_that_of_the_log(tmp_path: Path):
    folder = tmp_path / "predictions" / "model=pair"
    folder.mkdir(parents=True)
    (tmp_path / "spool").mkdir()
    table = pa.table(
        {"request_id": ["soak-5", "soak-5", "curl"], "prediction_id": [*IDS, IDS[0]], "role": ["stable"] * 3}
    )
    pq.write_table(table, folder / "one.parquet")
    found = segments.read(tmp_path, tmp_path)
    assert found.requests[5] == Logged(2, mark_of(IDS)) == Logged(2, 0x0123456789ABCDEF ^ 0xFF)
    assert found.requests[0].row_count == 1
    assert found.repeated_ids == 1
    assert found.by_role == {"stable": 3}
    assert found.left_in_spool == []


def rising(per_s: float, noise: float = 0.0, count: int = 300) -> Series:
    dice = random.Random(1)
    made = Series()
    for second in range(count):
        made.add(1000.0 + second, 50 + per_s * second + dice.gauss(0, noise) + (200 if second % 50 == 7 else 0))
    return made


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_trend_is_the_slope_after_the_warm_up_and_outliers_do_not_move_it(noise: float):
    found = trend(rising(0.1, noise), warm_up_s=100)
    assert found
    assert found.per_hour == pytest.approx(360, rel=0.1)
    assert found.growth == pytest.approx(19.9, rel=0.1)
    assert found.seconds == 199
    assert found.first == pytest.approx(61, abs=2)
    assert found.highest > 200


def test_series_that_is_too_short_has_no_trend():
    assert trend(rising(1, count=109), warm_up_s=100) is None
    assert trend(Series(), warm_up_s=0) is None
    assert longest([rising(1, count=10), rising(2, count=30)]).values[-1] == 50 + 2 * 29


def test_complaints_are_counted_without_what_differs():
    error = {"level": "error", "event": "a worker ended", "pid": 12, "exit_code": -9}
    lines = [json.dumps(error), json.dumps(error | {"pid": 13}), json.dumps({"level": "info", "event": "listening"})]
    lines += [
        "headrace: /tmp/x1/model is gone",
        "headrace: /tmp/x22/model is gone",
        '{"level":"error","message":"Stack: 1"}',
    ]
    assert complaints(lines) == {"a worker ended: -·": 2, "headrace: · is gone": 2}


def result(**changes) -> Result:
    made = {
        "minutes": 10.0,
        "counts": Counter({("1 row", 200): 360_000}),
        "failures": Ledger().failures([]),
        "seen": Seen(),
        "reloads": {},
        "account": Account(answered=5, logged=5, equal=5),
        "log": Log({}, Counter(stable=5), 3, 1, [], 0),
        "labels": (3, 0),
        "said": {"traefik": Counter({"it is so": 2})},
    }
    return Result(**(made | changes))


def test_page_says_how_much_an_hour_it_was_worth_and_that_all_is_well():
    said = page(result(), "make bench-soak", "2026-11-24", "a machine")
    assert "**Nothing was lost, and nothing grew.**" in said
    assert "360,000: 1.00 hours' worth at 100 a second" in said
    assert "| 1 row | 360,000 |" in said
    assert "- `traefik`, 2 times: it is so" in said


def grown(what: str, per_s: float) -> Seen:
    series = Series()
    for second in range(600):
        series.add(float(second), 50 + per_s * second)
    return Seen(held={("`single-v1`", 1, what): series})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"failures": ledger(outcome(1, problem="status 500")).failures([])}, "1 times 1 row to pair: status 500"),
        ({"seen": Seen(unswapped=["pair to b"])}, "not swapped: pair to b"),
        ({"account": Account(missing=4)}, "4 predictions are not in the log, 0 were counted"),
        ({"account": Account(unexplained=4)}, "the log has 4 predictions that nobody got"),
        ({"labels": (4, 0)}, "4 labels were accepted, 3 are in the log"),
        ({"labels": (1, 1)}, "1 labels were accepted, 3 are in the log"),
        ({"log": Log({}, Counter(), 3, 1, ["a.closed"], 0)}, "1 files were left in the spool"),
        ({"seen": grown("rss", 0.1)}, "rss, MB of `single-v1` grew by 44.9"),
        ({"seen": grown("descriptors", 0.01)}, "descriptors of `single-v1` grew by 4.5"),
    ],
)
def test_page_says_what_is_not_as_it_should_be(changes: dict, says: str):
    assert result(**changes).problems() == [says]
    assert f"- {says}" in page(result(**changes), "", "", "")


def test_at_kills_a_hundredth_may_fail():
    spans = [outcome(n, at=100.5) for n in range(99)]
    one = ledger(*spans, outcome(99, at=100.5, problem="status 502")).failures([KILL])
    two = ledger(*spans, *[outcome(99, at=100.5, problem="status 502")] * 2).failures([KILL])
    assert result(failures=one).problems() == []
    assert result(failures=two).problems() == ["2 of 101 requests failed at kills, more than 1%"]


@pytest.mark.parametrize(("per_s", "is_flat"), [(0.01, True), (-0.1, True), (0.02, False)])
def test_memory_that_grows_by_less_than_its_noise_is_flat(per_s: float, is_flat: bool):
    assert (result(seen=grown("pss", per_s)).problems() == []) == is_flat


def test_rows_by_key_lack_what_the_store_has():
    row = by_key(make_rows(1, seed=1)[0], number=3)
    agreed = contract(PAIR)
    assert row.keys() == {f.name for f in agreed.features if f.view is None} | set(agreed.entities)
    assert row["van"] == "van-3"
