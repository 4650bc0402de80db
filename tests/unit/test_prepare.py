"""Which rows are learnt from and which are judged on."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from headrace import configuration
from headrace.documents import read_contract
from headrace.domain.request import TrainingRequest
from headrace.errors import DataError
from headrace.steps.prepare import read_rows, split

ROOT = Path(__file__).parents[2]
CONTRACT = read_contract(ROOT / "models/flight_delay/contract.yaml")


def config(*overrides: str):
    return configuration.compose(ROOT, TrainingRequest("flight_delay", overrides))


def moment(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz=UTC)


def rows(*given: tuple[str, str | None, float | None]) -> pd.DataFrame:
    """Rows of (decision time, label time, label)."""
    return pd.DataFrame(
        {
            "flight_id": range(len(given)),
            "decision_time": pd.to_datetime([g[0] for g in given], utc=True, format="ISO8601"),
            "label_time": pd.to_datetime([g[1] for g in given], utc=True, format="ISO8601"),
            "late": [g[2] for g in given],
        }
    )


TRAIN = ("2013-03-01", "2013-03-02", 1.0)
HOLDOUT = ("2013-04-15", "2013-04-16", 0.0)


def test_rows_before_the_holdout_are_learnt_from_and_later_ones_judged_on():
    train, holdout, late = split(CONTRACT, config(), rows(HOLDOUT, TRAIN))
    assert (list(train.flight_id), list(holdout.flight_id), late) == ([1], [0], 0)


def test_a_label_that_came_after_the_holdout_began_is_not_learnt_from():
    crossing = ("2013-03-31T23:00", "2013-04-01T02:00", 1.0)
    train, _, late = split(CONTRACT, config(), rows(TRAIN, HOLDOUT, crossing))
    assert (list(train.flight_id), late) == ([0], 1)


def test_a_label_that_is_not_known_as_of_then_is_not_judged_on():
    crossing = ("2013-04-30T23:00", "2013-05-01T02:00", 1.0)
    _, holdout, late = split(CONTRACT, config(), rows(TRAIN, HOLDOUT, crossing))
    assert (list(holdout.flight_id), late) == ([1], 1)


def test_rows_without_a_label_are_left_out():
    cancelled = ("2013-03-05", None, None)
    train, holdout, late = split(CONTRACT, config(), rows(TRAIN, HOLDOUT, cancelled))
    assert len(train) + len(holdout) + late == 2


@pytest.mark.parametrize(("given", "part"), [([TRAIN], "holdout"), ([HOLDOUT], "training")])
def test_an_empty_part_is_refused(given, part: str):
    with pytest.raises(DataError, match=f"no labelled {part} rows"):
        split(CONTRACT, config(), rows(*given))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    frame = pd.DataFrame({name: ["x"] for name in ("flight_id", "origin", "carrier", "tailnum")})
    for name in {f.name for f in CONTRACT.features if f.view is None} - set(frame) | {"late", "delay_minutes"}:
        frame[name] = 1.0
    frame["decision_time"] = frame["label_time"] = moment("2013-01-05")
    last = frame.assign(decision_time=moment("2013-06-05"))
    folder = tmp_path / CONTRACT.rows.source
    folder.mkdir(parents=True)
    pd.concat([frame, last]).to_parquet(folder / "rows.parquet")
    return tmp_path


def test_only_the_window_is_read(project: Path):
    assert len(read_rows(project, CONTRACT, config("as_of=2013-06-06"))) == 1


@pytest.mark.parametrize("as_of", ["2013-06-08", "2013-04-01", "2015-01-01"])
def test_a_window_outside_the_data_says_which_dates_are_possible(project: Path, as_of: str):
    with pytest.raises(DataError, match="choose as_of between 2013-05-04 and 2013-06-06"):
        read_rows(project, CONTRACT, config(f"as_of={as_of}"))


def test_a_missing_column_is_named(project: Path):
    path = project / CONTRACT.rows.source / "rows.parquet"
    pd.read_parquet(path).drop(columns=["carrier"]).to_parquet(path)
    with pytest.raises(DataError, match=r"lacks the columns \['carrier'\]"):
        read_rows(project, CONTRACT, config("as_of=2013-06-06"))


def test_a_file_that_is_no_parquet_is_named_with_its_folder(project: Path):
    (project / CONTRACT.rows.source / "rows.parquet").write_text("not parquet")
    with pytest.raises(DataError, match="data/flight_delay/rows"):
        read_rows(project, CONTRACT, config("as_of=2013-06-06"))


def test_there_are_no_rows_at_all(tmp_path: Path):
    with pytest.raises(DataError, match="data/flight_delay/rows"):
        read_rows(tmp_path, CONTRACT, config())


def test_the_holdout_ends_as_of_then():
    found = config("as_of=2013-08-01", "window.train_days=10", "window.holdout_days=5")
    assert found.train_start == datetime(2013, 7, 17, tzinfo=UTC)
    assert found.holdout_start == datetime(2013, 7, 27, tzinfo=UTC)
