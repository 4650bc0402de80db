"""Outcomes: durable before they are answered for, by id and by key, late and out of order; what is no label is said."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.app import front
from serving.desk import Desk
from serving.label_log import LabelLog
from serving.limits import Limits
from serving.loading import load
from tests.serving.reading import kept_labels
from tests.serving.service_process import Process
from tests.serving.small_disk import small_disk

PATH = "/v1/models/flight_delay/labels"
JSON = {"Content-Type": "application/json"}
NOON, NOON_US = "2013-07-01T12:00:00Z", 1_372_680_000_000_000
ID = "0123456789abcdef0123456789abcdef"
HOUR_S = 3600.0


@pytest.fixture
def make_client(directories: dict[str, Path], tmp_path: Path) -> Callable[..., TestClient]:
    """Makes a client for the app of a task whose labels go to a folder of the test."""

    def make(task: str = "binary", labels: LabelLog | None = None, **limits: Any) -> TestClient:
        log = labels or LabelLog(tmp_path, "flight_delay", HOUR_S)
        return TestClient(front(load(directories[task]), Desk(Limits(**limits), labels=log)))

    return make


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> Iterator[TestClient]:
    with make_client() as one:
        yield one


def said(client: TestClient, *labels: dict[str, Any]) -> Any:
    return client.post(PATH, json={"labels": list(labels)})


def test_labels_are_kept_as_they_were_told(client: TestClient, tmp_path: Path) -> None:
    answer = said(
        client,
        {"prediction_id": ID, "late": 1},
        {"flight_id": "UA 1", "late": 0, "decided_at": NOON, "known_at": "2013-07-01T16:00:00+02:00"},
        {"flight_id": "UA 2", "late": True, "decided_at": None, "known_at": None, "prediction_id": None},
        {"flight_id": "é", "late": 0.0},
    )
    assert (answer.status_code, answer.json()) == (200, {"accepted": 4})
    found = kept_labels(tmp_path)
    assert all(one.pop("time_us") > NOON_US for one in found)
    everyone = {"schema_version": 1, "model": "flight_delay", "label_time_us": None, "decision_time_us": None}
    by_id, by_key = everyone | {"key": None}, everyone | {"prediction_id": None}
    assert found == [
        by_id | {"prediction_id": ID, "label": 1.0},
        by_key
        | {"key": "UA 1", "label": 0.0, "decision_time_us": NOON_US, "label_time_us": NOON_US + 2 * 3600 * 10**6},
        by_key | {"key": "UA 2", "label": 1.0},
        by_key | {"key": "é", "label": 0.0},
    ]
    assert 'headrace_labels_total{model="flight_delay"} 4.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("binary", [(0, 0.0), (1, 1.0), (True, 1.0), (False, 0.0), (1.0, 1.0), (-0.0, 0.0)]),
        ("multiclass", [("early", 0.0), ("late", 2.0)]),
        ("regression", [(0, 0.0), (-1.5, -1.5), (1e300, 1e300), (17, 17.0), (2**63, 2.0**63)]),
    ],
)
def test_values_are_those_of_the_task(
    make_client: Callable[..., TestClient], tmp_path: Path, task: str, values: list[tuple[Any, float]]
) -> None:
    with make_client(task) as client:
        answer = said(client, *({"prediction_id": ID, "late": value} for value, _ in values))
    assert answer.status_code == 200, answer.text
    assert [one["label"] for one in kept_labels(tmp_path)] == [label for _, label in values]


SECRET = "se-cret"  # noqa: S105
FINE = {"prediction_id": ID, "late": 1}
MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b'{"labels": null}',
    b'{"labels": []}',
    b'{"labels": {}}',
    b'{"labels": [{"prediction_id": "' + ID.encode() + b'", "late": NaN}]}',
    b'{"labels": [{"prediction_id": "\xed\xa0\x80", "late": 1}]}',
    b'{"labels": [{"prediction_id": "\\ud800", "late": 1}]}',
    b'{"labels": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    b'{"labels": [{"prediction_id": "' + ID.encode() + b'", "late": ' + b"9" * 5_000 + b"}]}",
    *(
        json.dumps({"labels": labels}).encode()
        for labels in (
            [None],
            [SECRET],
            [[FINE]],
            [{}],
            [{"late": 1}],
            [{"prediction_id": ID}],
            [{**FINE, "flight_id": SECRET}],
            [{**FINE, "prediction_id": SECRET}],
            [{**FINE, "prediction_id": ID.upper()}],
            [{**FINE, "prediction_id": f"{ID}\n"}],
            [{**FINE, "prediction_id": ID[:-1]}],
            [{**FINE, "prediction_id": 7}],
            [{"flight_id": "", "late": 1}],
            [{"flight_id": 1234567, "late": 1}],
            [{"flight_id": f"{SECRET}\x00", "late": 1}],
            [{"flight_id": SECRET * 20, "late": 1}],
            [{**FINE, "late": None}],
            [{**FINE, "late": 2}],
            [{**FINE, "late": 0.5}],
            [{**FINE, "late": SECRET}],
            [{**FINE, "late": [1]}],
            [{**FINE, "decided_at": SECRET}],
            [{**FINE, "decided_at": 1234567}],
            [{**FINE, "decided_at": "2013-07-01T12:00:00"}],
            [{**FINE, "known_at": "9999-12-31T23:59:59-23:59"}],
            [{**FINE, "wind_speed": 1234567}],
            [{**FINE, "x" * 10_000: 1}],
            [FINE, {**FINE, "late": SECRET}],
        )
    ),
    json.dumps({"labels": [FINE], "more": 1}).encode(),
    json.dumps({"labels": [{**FINE, "late": SECRET}] * 1000}).encode(),
]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: body[:60].decode(errors="replace"))
def test_malformed_labels_are_refused_whole_and_not_repeated(client: TestClient, tmp_path: Path, body: bytes) -> None:
    answer = client.post(PATH, content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}
    assert len(answer.content) < 4096
    for secret in (SECRET, "1234567", ID, ID.upper(), "23:59", "2013-07-01T12:00:00,"):
        assert secret not in answer.text
    assert kept_labels(tmp_path) == []


@pytest.mark.parametrize("task", ["multiclass", "regression"])
@pytest.mark.parametrize("value", [None, SECRET, True, [], {}, ""])
def test_values_of_another_kind_are_refused(
    make_client: Callable[..., TestClient], tmp_path: Path, task: str, value: Any
) -> None:
    with make_client(task) as client:
        answer = said(client, {"prediction_id": ID, "late": value})
    assert answer.status_code == 400
    assert "'late' must be" in answer.json()["error"]
    assert SECRET not in answer.text
    assert kept_labels(tmp_path) == []


def test_problems_are_said_by_position(client: TestClient) -> None:
    error = said(client, FINE, {**FINE, "late": 3}, FINE, {"late": 1}).json()["error"]
    assert error == ("labels[1]: 'late' must be 0 or 1; labels[3]: has to have either 'prediction_id' or 'flight_id'")


def test_limits_are_those_of_rows(make_client: Callable[..., TestClient], tmp_path: Path) -> None:
    with make_client(rows=3, body_bytes=2000) as client:
        assert said(client, *[FINE] * 3).status_code == 200
        assert said(client, *[FINE] * 4).status_code == 413
        assert client.post(PATH, content=b" " * 2001, headers=JSON).status_code == 413
        assert client.post(PATH, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
        assert client.get(PATH).status_code == 405
        assert client.post("/v1/models/other/labels", json={"labels": [FINE]}).status_code == 404
    assert len(kept_labels(tmp_path)) == 3


def test_service_without_a_log_says_that_it_keeps_none(directories: dict[str, Path]) -> None:
    with TestClient(front(load(directories["binary"]))) as client:
        answer = said(client, FINE)
    assert answer.status_code == 404
    assert "--prediction-log" in answer.json()["error"]


class HangingDisk(LabelLog):
    """Hangs while it writes, until it is let go."""

    def __init__(self, spool: Path) -> None:
        super().__init__(spool, "flight_delay", HOUR_S)
        self.hangs = threading.Semaphore(0)
        self.goes_on = threading.Event()

    def _append(self, labels: Any) -> None:
        self.hangs.release()
        assert self.goes_on.wait(30)
        super()._append(labels)


def test_disk_that_hangs_holds_some_labels_and_no_prediction(
    make_client: Callable[..., TestClient], make_rows: Callable[..., Any], tmp_path: Path
) -> None:
    disk = HangingDisk(tmp_path)
    with make_client(labels=disk, in_flight=40) as client, ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(said, client, FINE) for _ in range(39)]
        assert disk.hangs.acquire(timeout=30)
        # So many wait; those beyond are told so at once, which is when this comes.
        refused = [one.result(30) for one in _first_done(asked, 39 - 16)]
        assert {one.status_code for one in refused} == {503}
        assert {one.headers["Retry-After"] for one in refused} == {"1"}
        assert client.post("/v1/models/flight_delay/predict", json={"rows": make_rows(3)}).status_code == 200
        # Neither does the log's thread wait for it.
        disk.rotate()
        disk.goes_on.set()
        assert sorted(one.result(30).status_code for one in asked) == [200] * 16 + [503] * 23
    assert len(kept_labels(tmp_path)) == 16


def _first_done(asked: list[Any], count: int) -> list[Any]:
    done: list[Any] = []
    enough = threading.Event()

    def one_more(future: Any) -> None:
        done.append(future)
        if len(done) >= count:
            enough.set()

    for future in asked:
        future.add_done_callback(one_more)
    assert enough.wait(30)
    return done[:count]


def test_labels_of_many_clients_at_once_are_whole_lines(client: TestClient, tmp_path: Path) -> None:
    def tell(number: int) -> list[int]:
        return [said(client, *[{"flight_id": f"{number}-{i}", "late": 1}] * 3).status_code for i in range(15)]

    with ThreadPoolExecutor(8) as pool:
        statuses = [status for found in pool.map(tell, range(8)) for status in found]
    assert statuses == [200] * 120
    found = kept_labels(tmp_path)
    assert {one["key"] for one in found} == {f"{number}-{i}" for number in range(8) for i in range(15)}
    assert len(found) == 360


def test_label_that_was_answered_for_is_there_after_a_kill_and_one_that_was_not_does_no_harm(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    service = Process(directories["binary"], "--prediction-log", str(tmp_path)).until_listening()
    try:
        told = 0
        with closing(service.connect()) as connection:
            for told in range(1, 6):
                labels = [{"flight_id": f"{told}-{i}", "late": 1} for i in range(200)]
                connection.request("POST", PATH, json.dumps({"labels": labels}), JSON)
                answer = connection.getresponse()
                assert (answer.status, json.loads(answer.read())) == (200, {"accepted": 200})
            service.process.send_signal(signal.SIGKILL)
        assert service.wait() == -signal.SIGKILL
    finally:
        service.close()
    assert [one["key"] for one in kept_labels(tmp_path / "spool")] == [
        f"{n}-{i}" for n in range(1, 6) for i in range(200)
    ]


def test_full_disk_is_503_and_keeps_nothing_until_there_is_room_again(
    make_client: Callable[..., TestClient], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        log = LabelLog(disk.path, "flight_delay", HOUR_S)
        client = make_client(labels=log)
        disk.fill()
        answer = said(client, FINE)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
        assert kept_labels(disk.path) == []
        disk.make_room()
        assert said(client, {"flight_id": "before", "late": 1}).status_code == 200
        # Room for a part of a request, and then for none: the part is taken back.
        disk.fill(leave=4096)
        refused = said(client, *[{"flight_id": f"lost {i}", "late": 1} for i in range(200)])
        assert refused.status_code == 503
        assert "could not be kept" in refused.json()["error"]
        assert [one["key"] for one in kept_labels(disk.path)] == ["before"]
        disk.make_room()
        assert said(client, {"flight_id": "after", "late": 0}).status_code == 200
        assert [one["key"] for one in kept_labels(disk.path)] == ["before", "after"]
        log.rotate(everything=True)
        disk.read_only(True)
        assert said(client, FINE).status_code == 503
        assert 'headrace_labels_total{model="flight_delay"} 2.0' in client.get("/metrics").text
