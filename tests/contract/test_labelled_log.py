"""Predictions and labels that meet in the log: whose label it is, which one counts, and what is left out."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.adapters.labelled_log import LabelledLog
from headrace.domain.sequences import Tally
from headrace.errors import Unavailable
from headrace.telemetry import PROBE_ID
from serving.label_log import Label
from tests.contract.conftest import eventually
from tests.contract.segments import NOON, Log
from tests.seaweed import seaweed
from tests.serving.conftest import make_contract

MODEL = "flight_delay"
EVERY_S = 10.0
DECIDED = NOON - 60.0


class Reader:
    """Of a log; time passes when a test says so."""

    def __init__(self, log: Log, since: float = NOON, patience_s: float = 60.0) -> None:
        self.now = 0.0
        self._log, self._since = log, since
        self._outcomes = LabelledLog(log.to or str(log.folder), lambda: self.now, patience_s)

    def losses(self, *versions: int, span: float | None = None) -> Mapping[int, Tally]:
        """What is known after the next listing."""
        self.now += EVERY_S
        return self._outcomes.losses(MODEL, self._log.contract, versions or (3, 4), self._since, span)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


@pytest.fixture
def reader(log: Log) -> Reader:
    return Reader(log)


def us(seconds: float) -> int:
    return round(seconds * 1e6)


def keyed(label: float, key: str, decided: float | None = DECIDED) -> Label:
    return Label(label, key=key, decision_time_us=None if decided is None else us(decided))


def test_a_label_for_a_prediction_is_that_of_the_version_that_made_it(log: Log, reader: Reader) -> None:
    [first], [second] = log.predict(0.5, version=3), log.predict(0.5, version=4)
    log.label(Label(1.0, second))
    assert reader.losses() == {4: Tally(0.25, 1)}
    log.label(Label(0.0, first))
    assert reader.losses() == {3: Tally(0.25, 1), 4: Tally(0.25, 1)}


def test_a_label_for_a_row_is_that_of_every_version_that_predicted_it_as_a_shadow_too(log: Log, reader: Reader) -> None:
    log.predict(0.5, 0.5, keys=["a", "b"], decided=DECIDED)
    log.predict(1.0, 1.0, version=4, keys=["a", "c"], decided=DECIDED, role="shadow")
    log.label(keyed(0.0, "a"))
    assert reader.losses() == {3: Tally(0.25, 1), 4: Tally(1.0, 1)}


def test_a_label_for_the_stable_versions_prediction_is_not_the_shadows(log: Log, reader: Reader) -> None:
    [one] = log.predict(0.5, keys=["a"], decided=DECIDED)
    log.predict(0.5, version=4, keys=["a"], decided=DECIDED, role="shadow")
    log.label(Label(0.0, one))
    assert reader.losses() == {3: Tally(0.25, 1)}


def test_a_key_goes_with_its_decision_time_or_with_none(log: Log, reader: Reader) -> None:
    log.predict(0.5, keys=["a"], decided=DECIDED)
    log.predict(0.5, version=4, keys=["a"])
    log.predict(0.5, version=4)
    log.label(keyed(0.0, "a", DECIDED + 1))
    assert reader.losses() == {}
    log.label(keyed(0.0, "a", None))
    assert reader.losses() == {4: Tally(0.25, 1)}


@pytest.mark.parametrize("first_is_later", [False, True])
def test_of_several_labels_the_one_received_last_counts_in_whichever_segment_it_is(
    log: Log, reader: Reader, first_is_later: bool
) -> None:
    [one] = log.predict(1.0, keys=["a"], decided=DECIDED)
    times = [NOON + 200, NOON + 100] if first_is_later else [NOON + 100, NOON + 200]
    log.label(Label(0.0, one), at=times[0])
    log.label(Label(1.0, one), at=times[1])
    assert reader.losses() == {3: Tally(1.0 if first_is_later else 0.0, 1)}
    log.label(keyed(0.0, "a"), at=NOON + 300)
    assert reader.losses() == {3: Tally(1.0, 1)}
    log.label(keyed(1.0, "a"), at=NOON + 150)
    assert reader.losses() == {3: Tally(1.0, 1)}


def test_a_row_that_a_version_was_asked_about_twice_has_one_outcome(log: Log, reader: Reader) -> None:
    log.predict(1.0, keys=["a"], decided=DECIDED, at=NOON + 1)
    log.predict(0.5, keys=["a"], decided=DECIDED, at=NOON + 2)
    log.predict(1.0, keys=["a"], decided=DECIDED + 1, at=NOON)
    log.label(keyed(0.0, "a"), keyed(0.0, "a", DECIDED + 1))
    assert reader.losses() == {3: Tally(1.25, 2)}


def test_rows_of_one_request_count_as_one_that_is_wrong_in_part(log: Log, reader: Reader) -> None:
    ids = log.predict(1.0, 0.0, 0.5, 0.5, request="batch")
    ids += log.predict(1.0)
    log.label(*(Label(0.0, one) for one in ids))
    assert reader.losses() == {3: Tally(0.375 + 1.0, 2)}


def test_what_the_rollout_itself_asked_for_is_left_out(log: Log, reader: Reader) -> None:
    [probe] = log.predict(1.0, request=f"{PROBE_ID}0123")
    [other] = log.predict(0.5, request=PROBE_ID[:-1])
    log.label(Label(0.0, probe), Label(0.0, other))
    assert reader.losses() == {3: Tally(0.25, 1)}


def test_losses_of_classes_and_of_numbers_are_within_0_and_1(tmp_path: Path) -> None:
    classes = Log(tmp_path / "classes", contract=make_contract("multiclass"))
    ids = classes.predict([1.0, 0.0, 0.0], [0.5, 0.5, 0.0])
    classes.label(Label(2.0, ids[0]), Label(1.0, ids[1]))
    assert Reader(classes).losses() == {3: Tally(1.25, 2)}
    numbers = Log(tmp_path / "numbers", contract=make_contract("regression"))
    ids = numbers.predict(10.0, 15.0, 1e6, float("nan"))
    numbers.label(*(Label(10.0, one) for one in ids))
    assert Reader(numbers).losses(span=20.0) == {3: Tally(2.25, 4)}


def test_predictions_of_other_classes_can_not_be_held_against_these_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = Log(tmp_path, contract=make_contract("regression"))
    [other] = numbers.predict(0.5, version=4)
    classes = Log(tmp_path, contract=make_contract("multiclass"))
    [one] = classes.predict([1.0, 0.0, 0.0])
    classes.label(Label(0.0, one), Label(0.0, other))
    assert Reader(classes).losses() == {3: Tally(0.0, 1)}
    assert "and the labels of ('early', 'on_time', 'late')" in capsys.readouterr().err


def test_a_label_that_is_no_class_is_left_out(log: Log, reader: Reader) -> None:
    ids = log.predict(0.5, 0.5)
    log.label(Label(2.0, ids[0]), Label(1.0, ids[1]))
    assert reader.losses() == {3: Tally(0.25, 1)}


def test_what_is_no_segment_is_said_once_and_hides_no_other(
    log: Log, reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = log.predict(0.5, 0.5)
    log.label(Label(0.0, ids[0]))
    day = next((log.folder / "predictions").rglob("date=*"))
    content = next(day.glob("*.parquet")).read_bytes()
    (day / "torn.parquet").write_bytes(content[: len(content) // 2])
    (day / "spoilt.parquet").write_bytes(content[:40] + bytes(len(content) - 80) + content[-40:])
    (day / "empty.parquet").touch()
    pq.write_table(pa.table({"prediction_id": ["a"]}), day / "foreign.parquet")
    moment = pa.array([0], pa.timestamp("us", "UTC"))
    words = {"time": moment, "prediction_id": ["a"], "key": ["a"], "decision_time": moment, "label": ["late"]}
    pq.write_table(pa.table(words), next((log.folder / "labels").rglob("date=*")) / "words.parquet")
    (day / ".half.part").write_bytes(b"PAR1")
    (day / ".hidden.parquet").write_bytes(b"PAR1")
    (day / "README").write_bytes(b"notes")
    (day.parent / "date=today").mkdir()
    for is_first in (True, False):
        assert reader.losses() == {3: Tally(0.25, 1)}
        said = capsys.readouterr().err
        told = [name for name in ("torn", "spoilt", "empty", "foreign", "words") if f"{name}.parquet is no" in said]
        assert len(said.splitlines()) == len(told)
        assert told == (["torn", "spoilt", "empty", "foreign", "words"] if is_first else [])


def test_segments_are_listed_every_ten_seconds_and_read_once(log: Log) -> None:
    reader = Reader(log)
    [one] = log.predict(0.5)
    log.label(Label(0.0, one))
    assert reader.losses() == {3: Tally(0.25, 1)}
    for path in log.folder.rglob("*.parquet"):
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    [other] = log.predict(0.5)
    log.label(Label(0.0, other))
    reader.now -= EVERY_S / 2
    assert reader.losses() == {3: Tally(0.25, 1)}, "it is not time yet"
    assert reader.losses() == {3: Tally(0.5, 2)}, "what was read is not read again"


def test_segments_that_can_hold_nothing_since_then_are_not_opened(
    log: Log, reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    [one] = log.predict(0.5)
    log.label(Label(0.0, one))
    today = next((log.folder / "predictions").rglob("date=*"))
    old, late = today.parent / "date=2023-11-12", today.parent / "date=2023-11-13"
    for day in (old, late):
        day.mkdir()
        (day / "broken.parquet").write_bytes(b"nothing")
    written_before = today / "before.parquet"
    written_before.write_bytes(b"nothing")
    os.utime(written_before, (NOON - 3600, NOON - 3600))
    assert today.name == "date=2023-11-14"
    assert reader.losses() == {3: Tally(0.25, 1)}
    [said] = capsys.readouterr().err.splitlines()
    assert str(late) in said, "a segment has the day of its first row"


def test_rows_and_labels_of_before_do_not_count(log: Log, reader: Reader) -> None:
    [before], [one] = log.predict(0.5, at=NOON - 0.001), log.predict(0.5, keys=["a"], decided=DECIDED)
    log.label(Label(0.0, before), Label(1.0, one))
    log.label(keyed(0.0, "a"), at=NOON - 1)
    assert reader.losses() == {3: Tally(0.25, 1)}


def test_without_labels_predictions_are_not_even_read(log: Log, reader: Reader) -> None:
    log.predict(0.5)
    next((log.folder / "predictions").rglob("*.parquet")).write_bytes(b"nothing")
    assert reader.losses() == {}


def test_a_log_that_is_none_yet_knows_nothing_and_one_that_can_not_be_read_says_so(tmp_path: Path) -> None:
    reader = Reader(Log(tmp_path / "log"))
    assert reader.losses() == {}
    (tmp_path / "log" / "labels").mkdir(parents=True)
    (tmp_path / "log" / "labels" / f"model={MODEL}").write_text("a file")
    with pytest.raises(Unavailable, match="labels can't be read"):
        reader.losses()
    (tmp_path / "log" / "labels" / f"model={MODEL}").unlink()
    assert reader.losses() == {}


def test_a_place_that_is_no_url_is_said_without_repeating_it() -> None:
    outcomes = LabelledLog("s4://key:secret@bucket/log", patience_s=60.0)
    with pytest.raises(Unavailable, match=r"the segments' place is no URL of a bucket$"):
        outcomes.losses(MODEL, make_contract("binary"), (3, 4), NOON)


def test_what_takes_longer_than_a_look_waits_is_found_by_a_later_one(log: Log) -> None:
    [one] = log.predict(0.5)
    log.label(Label(0.0, one))
    reader = Reader(log, patience_s=0.0)

    def known() -> Mapping[int, Tally] | None:
        with suppress(Unavailable):
            return reader.losses()
        return None

    eventually(lambda: known() == {3: Tally(0.25, 1)})


def test_a_bucket_that_hangs_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in {**environment, "AWS_MAX_ATTEMPTS": "1", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        log = Log(tmp_path, f"s3://bucket/log?endpoint_override=127.0.0.1:{port}&scheme=http")
        reader = Reader(log, patience_s=0.05)
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"not read within 0\.05 s"):
                reader.losses()
        asked, _ = silent.accept()
    asked.close()

    def said() -> str:
        with pytest.raises(Unavailable) as refused:
            reader.losses()
        return str(refused.value)

    eventually(lambda: said().startswith("labels can't be read"))


def test_labels_are_found_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with seaweed(tmp_path / "store") as store:
        for name, value in {**store.env, "AWS_MAX_ATTEMPTS": "1"}.items():
            monkeypatch.setenv(name, value)
        log = Log(tmp_path / "log", store.url("log"))
        reader = Reader(log)
        assert reader.losses() == {}
        [one] = log.predict(0.5)
        log.predict(1.0, version=4, keys=["a"])
        log.label(Label(0.0, one), keyed(0.0, "a", None))
        assert reader.losses() == {3: Tally(0.25, 1), 4: Tally(1.0, 1)}
        store.stop()
        with pytest.raises(Unavailable, match="labels can't be read"):
            reader.losses()
