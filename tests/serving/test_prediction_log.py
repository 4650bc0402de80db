"""The prediction log of a real service: everything that was answered, once, whatever happens meanwhile."""

import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import UsageError
from serving.blocks import ID_BYTES, Block, Recorded
from serving.context import Context
from serving.metrics import Families
from serving.prediction_log import LogOptions, PredictionLog
from tests.serving.conftest import EXAMPLE, FEATURES, VERSION, make_contract
from tests.serving.logged import (
    PREDICT,
    eventually,
    fill,
    metric,
    post,
    predict,
    read_rows,
    segments,
    service,
    small_disk,
    spooled_rows,
    waiting_files,
)
from tests.serving.oip import INFER, json_inputs
from tests.serving.service_process import Process

NOON = datetime(2013, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)
TRACE = "0af7651916cd43dd8448eb211c80319c"
DISK = 'headrace_log_dropped_rows_total{reason="disk"}'

Rows = list[dict[str, Any]]
MakeRows = Callable[..., Rows]


def named(rows: Rows) -> Rows:
    """Every third row with a key and a time, every third with a key alone."""
    extras: Rows = [{"flight_id": "UA é 1", "decided_at": NOON.isoformat()}, {"flight_id": "x" * 64}, {}]
    return [{**row, **extras[i % 3]} for i, row in enumerate(rows)]


def features(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the model takes it: float32, and a category that is not known is missing."""
    found = {one.name: row.get(one.name) for one in FEATURES}
    for one in FEATURES:
        if one.type == "category" and found[one.name] not in one.values:
            found[one.name] = None
        if one.type == "float" and found[one.name] is not None:
            found[one.name] = float(np.float32(found[one.name]))
    return found


def single(answer: dict[str, Any]) -> Any:
    """A prediction of the rows API as the log has it."""
    value = answer.get("probabilities", answer.get("probability", answer.get("value")))
    if isinstance(value, dict):
        return {name: float(np.float32(one)) for name, one in value.items()}
    return float(np.float32(value))


def of_tensors(task: str, outputs: dict[str, Any]) -> list[Any]:
    """Predictions of the tensors API as the log has them."""
    if task == "regression":
        return [float(np.float32(value)) for value in outputs["prediction"]]
    table = np.array(outputs["probabilities"], dtype=np.float32).reshape(len(outputs["prediction_id"]), -1)
    if task == "binary":
        return [float(value) for value in table[:, 1]]
    return [dict(zip(("early", "on_time", "late"), map(float, row), strict=True)) for row in table]


def expect(rows: Rows, ids: list[str], predictions: list[Any], said: dict[str, str | None]) -> dict[str, Any]:
    found = {}
    for row, name, prediction in zip(rows, ids, predictions, strict=True):
        time = row.get("decided_at")
        found[name] = {
            "prediction_id": name,
            "version": VERSION,
            **said,
            "keys": {"flight_id": row.get("flight_id")},
            "decision_time": datetime.fromisoformat(time) if time else None,
            "features": features(row),
            "prediction": prediction,
        }
    return found


def ask_rows(one: Process, rows: Rows, said: dict[str, str | None], **headers: str) -> dict[str, Any]:
    status, got, answer = post(one, PREDICT, {"rows": rows}, **headers)
    assert status == 200, answer
    said = {"request_id": got["x-request-id"], **said}
    predictions = answer["predictions"]
    return expect(rows, [each["id"] for each in predictions], [single(each) for each in predictions], said)


def ask_tensors(one: Process, task: str, rows: Rows, said: dict[str, str | None], **headers: str) -> dict[str, Any]:
    status, got, answer = post(one, INFER, {"inputs": json_inputs(rows)}, **headers)
    assert status == 200, answer
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    said = {"request_id": got["x-request-id"], **said}
    return expect(rows, outputs["prediction_id"], of_tensors(task, outputs), said)


def test_log_has_all_that_was_sent_and_answered(
    task: str, directories: dict[str, Path], tmp_path: Path, make_rows: MakeRows
) -> None:
    direct: dict[str, str | None] = {"role": "direct", "trace_id": None}
    traced = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "Headrace_Role": "canary", "X_Request_ID": "mine-1"}
    as_canary = {"role": "canary", "trace_id": TRACE, "request_id": "mine-1"}
    odd = [{**EXAMPLE, "gate": "west", "distance": 760.0, "is_holiday": True}]
    expected: dict[str, Any] = {}
    before = datetime.now(UTC)
    with service(directories[task], tmp_path) as one:
        for rows in (make_rows(1), named(odd), named(make_rows(50, seed=1)), make_rows(1500, seed=2)):
            expected |= ask_rows(one, rows, direct)
            expected |= ask_rows(one, rows, as_canary, **traced)
        for rows in (make_rows(1, seed=3), make_rows(50, seed=4)):
            expected |= ask_tensors(one, task, rows, direct)
            expected |= ask_tensors(one, task, rows, as_canary, **traced)
        for role in ("stable", "shadow", "previous"):
            expected |= ask_rows(one, make_rows(2), {**direct, "role": role}, Headrace_Role=role)
        expected |= ask_rows(one, make_rows(2), direct, Headrace_Role="admiral")
        assert one.stop() == 0
    logged = read_rows(tmp_path)
    assert len(logged) == len(expected)
    assert all(before <= row.pop("time") <= datetime.now(UTC) for row in logged)
    assert {row["prediction_id"]: row for row in logged} == expected
    assert {path.parts[-3] for path in segments(tmp_path)} == {"model=flight_delay"}
    assert waiting_files(tmp_path) == []


def test_what_a_killed_service_left_is_made_segments_of_by_the_next(
    directories: dict[str, Path], tmp_path: Path, make_rows: MakeRows
) -> None:
    with service(directories["binary"], tmp_path) as one:
        ids = predict(one, make_rows(30))
        eventually(lambda: spooled_rows(tmp_path) == 30)
        assert one.stop(signal.SIGKILL) == -signal.SIGKILL
    # As if it had been killed in the middle of a block.
    (left,) = (tmp_path / "spool").glob("predictions-*.open")
    with left.open("ab") as file:
        file.write(left.read_bytes()[-100:])
    with service(directories["binary"], tmp_path) as two:
        eventually(lambda: waiting_files(tmp_path) == [])
        ids += predict(two, make_rows(3))
        assert two.stop() == 0
    assert sorted(row["prediction_id"] for row in read_rows(tmp_path)) == sorted(ids)
    assert waiting_files(tmp_path) == []


def test_two_services_with_one_folder_that_stop_at_once_leave_nothing(
    directories: dict[str, Path], tmp_path: Path, make_rows: MakeRows
) -> None:
    with service(directories["binary"], tmp_path) as one, service(directories["binary"], tmp_path) as two:
        ids = predict(one, make_rows(20)) + predict(two, make_rows(30))
        for each in (one, two):
            each.process.send_signal(signal.SIGTERM)
        assert (one.wait(), two.wait()) == (0, 0)
        assert not [event for each in (one, two) for event in each.events if "not written" in event["event"]]
    assert waiting_files(tmp_path) == []
    assert sorted(row["prediction_id"] for row in read_rows(tmp_path)) == sorted(ids)


def test_full_disk_costs_rows_of_the_log_that_are_counted_and_no_answer(
    directories: dict[str, Path], tmp_path: Path, make_rows: MakeRows
) -> None:
    rows = make_rows(500)
    with small_disk(tmp_path / "disk") as disk, service(directories["binary"], disk / "log") as one:
        ids = predict(one, rows)
        eventually(lambda: spooled_rows(disk / "log") == 500)
        filler = fill(disk)
        lost = predict(one, rows)
        eventually(lambda: metric(one, DISK) == 500)
        lost += predict(one, rows)
        eventually(lambda: metric(one, DISK) == 1000)
        filler.unlink()
        ids += predict(one, rows)
        assert one.stop() == 0
        assert sorted(row["prediction_id"] for row in read_rows(disk / "log")) == sorted(ids)
        assert not set(lost) & set(ids)
        assert waiting_files(disk / "log") == []


def make_block(count: int, mark: int = 0) -> Block:
    matrix = np.full((count, len(FEATURES)), 1.0, dtype=np.float32)
    block = Block(bytes([mark]) * ID_BYTES * count, matrix, np.zeros(count, dtype=np.float32), used=count)
    block.requests.append(Recorded(0, count, Context(b"r"), None))
    return block


def test_full_queue_drops_and_counts_and_does_not_wait(tmp_path: Path) -> None:
    families, contract = Families(), make_contract("binary")
    log = PredictionLog(LogOptions(tmp_path, rotate_s=1e9), families, queued_rows=10)
    stuck, goes_on = threading.Event(), threading.Event()
    try:
        log.also(lambda: (stuck.set(), goes_on.wait(30)))
        log.put(contract, 3, make_block(11, 1))
        assert stuck.wait(30)
        # The thread waits for the disk, so what follows can only be refused or queued.
        for count, mark in ((6, 2), (5, 3), (4, 4)):
            log.put(contract, 3, make_block(count, mark))
        assert families.dropped.labels("queue")._value.get() == 5
        assert families.log_queue._value.get() == 10
    finally:
        goes_on.set()
        assert log.close()
    marks = [row["prediction_id"][:2] for row in read_rows(tmp_path)]
    assert {mark: marks.count(mark) for mark in marks} == {"01": 11, "02": 6, "04": 4}
    assert families.log_queue._value.get() == 0


@pytest.mark.parametrize("options", [{"rotate_bytes": 1, "rotate_s": 1e9}, {"rotate_s": 60.0}])
def test_segments_are_made_while_it_runs_by_size_and_by_time(tmp_path: Path, options: dict[str, Any]) -> None:
    clock = [0.0]
    log = PredictionLog(LogOptions(tmp_path, **options), Families(), now=lambda: clock[0])
    try:
        for mark in (1, 2):
            log.put(make_contract("binary"), 3, make_block(2, mark))
            eventually(lambda: waiting_files(tmp_path) or "rotate_bytes" in options)
            clock[0] += 60.0 if "rotate_bytes" not in options else 0.0
            if mark == 1:
                eventually(lambda: len(segments_so_far(tmp_path)) == 1)
    finally:
        assert log.close()
    assert len(segments(tmp_path)) == 2
    assert len(read_rows(tmp_path)) == 4


def segments_so_far(folder: Path) -> list[Path]:
    """Whole segments, whatever is being written beside them."""
    return [path for path in folder.rglob("*.parquet") if not path.name.startswith(".")]


def test_nothing_rotates_before_its_time(tmp_path: Path) -> None:
    log = PredictionLog(LogOptions(tmp_path), Families(), now=lambda: 0.0)
    seen = threading.Event()
    log.put(make_contract("binary"), 3, make_block(2))
    eventually(lambda: spooled_rows(tmp_path) == 2)
    log.also(seen.set)
    assert seen.wait(30)
    assert [Path(name).suffix for name in waiting_files(tmp_path)] == [".open"]
    assert log.close()


@pytest.mark.parametrize("to", ["gs://bucket/x", "http://secret@host/x"])
def test_segments_go_to_no_other_scheme(tmp_path: Path, to: str) -> None:
    with pytest.raises(UsageError, match="to a folder or to s3://") as refused:
        PredictionLog(LogOptions(tmp_path, to), Families())
    assert "secret" not in str(refused.value)


def test_folder_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="can't be made: Not a directory"):
        PredictionLog(LogOptions(tmp_path / "file"), Families())
