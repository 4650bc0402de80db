"""Rows from files, typed by the contract."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from headrace.cli.predict import read_rows
from headrace.documents import plain, read_contract
from headrace.errors import DataError, UsageError

ROOT = Path(__file__).parents[2]
CONTRACT = read_contract(ROOT / "models/bike_demand/contract.yaml")
EXAMPLE = plain(CONTRACT)["example"]


def test_every_kind_of_file_gives_the_same_row(tmp_path: Path):
    import json

    (tmp_path / "a.json").write_text(json.dumps({"rows": [EXAMPLE]}))
    (tmp_path / "b.json").write_text(json.dumps([EXAMPLE]))
    (tmp_path / "c.json").write_text(json.dumps(EXAMPLE))
    (tmp_path / "d.jsonl").write_text(json.dumps(EXAMPLE) + "\n\n")
    pd.DataFrame([EXAMPLE]).to_csv(tmp_path / "e.csv", index=False)
    pd.DataFrame([EXAMPLE]).to_parquet(tmp_path / "f.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert read_rows(CONTRACT, path) == [EXAMPLE], path.name


def test_keys_come_with_the_features_and_what_a_view_holds_may_be_left_out(tmp_path: Path):
    flights = read_contract(ROOT / "models/flight_delay/contract.yaml")
    sent = {f.name: plain(flights)["example"][f.name] for f in flights.features if f.view is None}
    keys = {"tailnum": "N14228", "decision_time": "2013-08-01T12:00:00+00:00"}
    pd.DataFrame([sent | keys]).to_csv(tmp_path / "a.csv", index=False)
    frame = pd.DataFrame([sent | keys])
    frame.assign(decision_time=pd.to_datetime(frame["decision_time"])).to_parquet(tmp_path / "b.parquet")
    (from_csv,), (from_parquet,) = (read_rows(flights, path) for path in sorted(tmp_path.iterdir()))
    assert from_csv == sent | keys
    assert from_parquet == sent | keys | {"decision_time": datetime(2013, 8, 1, 12, tzinfo=UTC)}


def test_an_empty_cell_is_null(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("hour,last_hour_bikers\n5,\n")
    assert read_rows(CONTRACT, path) == [{"hour": 5, "last_hour_bikers": None}]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "hour\nfive\n", "a.csv:2: hour is 'five'"),
        ("a.csv", "hours\n5\n", "hours"),
        ("a.json", "{", "not JSON"),
        ("a.json", "3", "list of rows"),
        ("a.jsonl", "{\n", "jsonl"),
        ("a.parquet", "x", "parquet"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, name: str, text: str, told: str):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=told):
        read_rows(CONTRACT, path)


def test_an_unknown_kind_is_refused(tmp_path: Path):
    (tmp_path / "a.xlsx").write_text("")
    with pytest.raises(UsageError, match=r"\.json"):
        read_rows(CONTRACT, tmp_path / "a.xlsx")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="there is no file"):
        read_rows(CONTRACT, tmp_path / "a.csv")
