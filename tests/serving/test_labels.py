"""Outcomes: on the disk before they are answered for, and of several for one thing the last counts."""

import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serving.label_log import Label, LabelLog, read_labels
from serving.spool_file import CLOSED, LABELS
from tests.serving.conftest import make_contract
from tests.serving.logged import (
    LABELS as PATH,
)
from tests.serving.logged import (
    eventually,
    fill,
    make_segments,
    metric,
    post,
    predict,
    read_rows,
    segments,
    service,
    small_disk,
    waiting_files,
)
from tests.serving.service_process import Process

NOON = "2013-07-01T12:00:00Z"
NOON_AT = datetime(2013, 7, 1, 12, tzinfo=UTC)
IDS = [f"{position:032x}" for position in range(1000)]


def send(one: Process, *labels: dict[str, Any]) -> None:
    status, _, answer = post(one, PATH, {"labels": list(labels)})
    assert (status, answer) == (200, {"accepted": len(labels)})


@pytest.fixture
def running(directories: dict[str, Path], tmp_path: Path) -> Any:
    """A service with a log in the test's folder."""
    with service(directories["binary"], tmp_path, "--max-rows", "50") as one:
        yield one


def test_label_that_was_answered_for_survives_a_kill(
    running: Process, directories: dict[str, Path], tmp_path: Path, make_rows: Callable[..., Any]
) -> None:
    (name,) = predict(running, make_rows(1))
    send(
        running,
        {"prediction_id": name, "late": 1, "known_at": NOON},
        {"flight_id": "UA é 1", "decided_at": NOON, "late": 0},
        {"flight_id": "UA 2", "late": True},
    )
    assert running.stop(signal.SIGKILL) == -signal.SIGKILL
    with service(directories["binary"], tmp_path) as two:
        eventually(lambda: waiting_files(tmp_path) == [])
        assert two.stop() == 0
    nothing = {"prediction_id": None, "key": None, "decision_time": None, "label_time": None}
    rows = read_rows(tmp_path, "labels")
    assert len({row.pop("time") for row in rows}) == 1
    assert rows == [
        {**nothing, "prediction_id": name, "label": 1.0, "label_time": NOON_AT},
        {**nothing, "key": "UA é 1", "decision_time": NOON_AT, "label": 0.0},
        {**nothing, "key": "UA 2", "label": 1.0},
    ]
    assert {path.parts[-3] for path in segments(tmp_path, "labels")} == {"model=flight_delay"}


def test_of_several_for_one_thing_the_last_counts_and_again_is_the_same(running: Process, tmp_path: Path) -> None:
    by_key = {"flight_id": "a", "decided_at": NOON}
    send(running, {"prediction_id": IDS[1], "late": 0}, {**by_key, "late": 0}, {"flight_id": "a", "late": 0})
    send(running, {"prediction_id": IDS[1], "late": 1}, {**by_key, "late": 1})
    send(running, {"prediction_id": IDS[1], "late": 1, "decided_at": NOON}, {**by_key, "late": 1})
    eventually(lambda: metric(running, 'headrace_labels_total{model="flight_delay"}') == 7)
    assert running.stop() == 0
    found = [(row["prediction_id"], row["key"], row["decision_time"], row["label"]) for row in sorted_rows(tmp_path)]
    assert found == [(None, "a", None, 0.0), (None, "a", NOON_AT, 1.0), (IDS[1], None, NOON_AT, 1.0)]


def sorted_rows(folder: Path) -> list[dict[str, Any]]:
    return sorted(read_rows(folder, "labels"), key=lambda row: (row["prediction_id"] or "", row["label"]))


def test_full_disk_is_said_and_none_is_kept(directories: dict[str, Path], tmp_path: Path) -> None:
    many = [{"prediction_id": name, "late": 1} for name in IDS]
    with small_disk(tmp_path / "disk") as disk, service(directories["binary"], disk / "log") as one:
        send(one, {"prediction_id": IDS[0], "late": 0})
        filler = fill(disk)
        for _ in range(2):
            status, headers, answer = post(one, PATH, {"labels": many})
            assert (status, headers["retry-after"]) == (503, "30")
            assert answer == {"error": "the labels could not be kept: try again later"}
        filler.unlink()
        send(one, {"prediction_id": IDS[1], "late": 0})
        assert one.stop() == 0
        assert [(row["prediction_id"], row["label"]) for row in sorted_rows(disk / "log")] == [
            (IDS[0], 0.0),
            (IDS[1], 0.0),
        ]
        assert waiting_files(disk / "log") == []


BAD: list[Any] = [
    {},
    [],
    {"labels": []},
    {"labels": {}},
    {"labels": [1]},
    {"labels": [{}], "more": 1},
    *(
        {"labels": [one]}
        for one in (
            {"late": 1},
            {"prediction_id": IDS[0]},
            {"prediction_id": IDS[0], "late": None},
            {"prediction_id": IDS[0], "late": "secret"},
            {"prediction_id": IDS[0], "late": 0.5},
            {"prediction_id": IDS[0], "late": [1]},
            {"prediction_id": IDS[0], "late": 10**19},
            {"prediction_id": IDS[0], "flight_id": "secret", "late": 1},
            {"prediction_id": "secret", "late": 1},
            {"prediction_id": IDS[0].replace("0", "A"), "late": 1},
            {"prediction_id": 17, "late": 1},
            {"flight_id": "", "late": 1},
            {"flight_id": "sec\nret", "late": 1},
            {"flight_id": "secret" * 20, "late": 1},
            {"flight_id": "a", "decided_at": "secret", "late": 1},
            {"flight_id": "a", "decided_at": "2013-07-01T12:00:00", "late": 1},
            {"flight_id": "a", "known_at": 1372680000, "late": 1},
            {"flight_id": "a", "late": 1, "weight": "secret"},
        )
    ),
    b"",
    b"secret",
    b'{"labels": [{"flight_id": "a", "late": NaN}]}',
    b'{"labels": [{"flight_id": "\\ud800", "late": 1}]}',
    b'{"labels": [{"flight_id": "a", "late": ' + b"9" * 5000 + b"}]}",
]


def test_what_is_no_label_is_refused_without_its_value_and_keeps_none_of_its_request(
    running: Process, tmp_path: Path
) -> None:
    for body in BAD:
        if isinstance(body, dict) and body.get("labels") and isinstance(body["labels"], list):
            body["labels"].insert(0, {"prediction_id": IDS[0], "late": 1})
        status, _, answer = post(running, PATH, body)
        assert status == 400, body
        assert list(answer) == ["error"]
        assert len(answer["error"]) < 1000
        assert not any(value in answer["error"] for value in ("sec", "999", "1372680000", "0.5", "AAAA", "17"))
    assert running.stop() == 0
    assert read_rows(tmp_path, "labels") == []


def test_problems_are_said_by_position_and_only_the_first_few(running: Process) -> None:
    labels = [{"prediction_id": IDS[0], "late": 1}, *[{"prediction_id": IDS[1], "late": 2}] * 40]
    status, _, answer = post(running, PATH, {"labels": labels})
    assert status == 400
    assert "labels[1]: 'late' must be 0 or 1" in answer["error"]
    assert "labels[0]" not in answer["error"]
    assert "labels[6]" not in answer["error"]


def test_too_many_are_refused_and_as_many_as_may_be_are_taken(running: Process) -> None:
    labels = [{"prediction_id": name, "late": 1} for name in IDS[:51]]
    status, _, answer = post(running, PATH, {"labels": labels})
    assert (status, answer) == (413, {"error": "a request has at most 50 labels: send fewer"})
    send(running, *labels[:50])


def test_service_without_a_log_keeps_none(directories: dict[str, Path]) -> None:
    one = Process(directories["binary"], "--drain-s", "0").until_listening()
    try:
        status, _, answer = post(one, PATH, {"labels": [{"prediction_id": IDS[0], "late": 1}]})
        assert status == 404
        assert "--prediction-log" in answer["error"]
    finally:
        assert one.stop() == 0
        one.close()


@pytest.mark.parametrize(
    ("task", "good", "kept", "bad"),
    [
        ("multiclass", "late", 2.0, ["Late", 2, None, ["late"]]),
        ("regression", -2.5, -2.5, ["secret", True, None]),
    ],
)
def test_label_is_of_the_models_task(
    task: str, good: Any, kept: float, bad: list[Any], directories: dict[str, Path], tmp_path: Path
) -> None:
    with service(directories[task], tmp_path) as one:
        send(one, {"prediction_id": IDS[0], "late": good})
        for value in bad:
            assert post(one, PATH, {"labels": [{"prediction_id": IDS[0], "late": value}]})[0] == 400
        assert one.stop() == 0
    assert [row["label"] for row in read_rows(tmp_path, "labels")] == [kept]


def test_later_label_counts_though_the_clock_was_set_back(tmp_path: Path) -> None:
    clock = iter([9_000_000, 1_000])
    log = LabelLog(tmp_path, make_contract("binary").model, 1e9, clock_ns=lambda: next(clock))
    log.append([Label(0.0, IDS[0])])
    log.append([Label(1.0, IDS[0])])
    log.rotate(everything=True)
    (path,) = tmp_path.iterdir()
    assert path.suffix == CLOSED
    assert [(one["time_us"], one["label"]) for one in read_labels(path)] == [(9000, 0.0), (9001, 1.0)]


def test_file_that_is_cut_anywhere_reads_as_its_whole_labels(tmp_path: Path) -> None:
    log = LabelLog(tmp_path, "m", 1e9)
    log.append([Label(float(position), None, "é") for position in range(3)])
    log.rotate(everything=True)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        assert [one["label"] for one in read_labels(path)] == list(map(float, range(content[:cut].count(b"\n"))))


def test_files_rotate_by_size_and_by_time_and_more_than_may_wait_is_refused(tmp_path: Path) -> None:
    clock = [0.0]
    log = LabelLog(tmp_path, "m", 60.0, rotate_bytes=200, spool_bytes=400, now=lambda: clock[0])
    log.append([Label(1.0, IDS[0])])
    log.rotate()
    assert [path.suffix for path in tmp_path.iterdir()] == [".open"]
    clock[0] = 60.0
    log.rotate()
    assert [path.suffix for path in tmp_path.iterdir()] == [CLOSED]
    log.append([Label(1.0, IDS[1]), Label(1.0, IDS[2])])
    with pytest.raises(OSError, match=f"bytes of {LABELS} wait"):
        log.append([Label(1.0, IDS[3])])
    assert sum(len(list(read_labels(path))) for path in tmp_path.iterdir()) == 3


def test_segment_of_labels_made_twice_is_one(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    log = LabelLog(spool, "m", 1e9)
    log.append([Label(1.0, IDS[0])])
    log.rotate(everything=True)
    (path,) = spool.iterdir()
    content = path.read_bytes()
    for _ in range(2):
        path.write_bytes(content)
        assert make_segments(tmp_path) == 0
    assert len(read_rows(tmp_path, "labels")) == 1
