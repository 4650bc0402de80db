"""What is in a segment: every field as it was, in the type that the contract says."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from headrace.domain.contract import Contract
from serving.blocks import ID_BYTES, Block, Recorded
from serving.context import Context
from serving.keys import Keys
from serving.spool import frame, header
from serving.spool_file import PREDICTIONS, SpoolFile
from tests.serving.conftest import FEATURES, make_contract
from tests.serving.logged import make_segments, read_rows, segments, waiting_files

NOON_US = 1_372_680_000_000_000
NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
TRACE = "0af7651916cd43dd8448eb211c80319c"
# In the order of the contract: wind_speed, distance, carrier, is_holiday, recent_delay, gate.
ROWS = [
    ([12.5, 760, 0, 1, np.nan, 1], [12.5, 760, "AA", True, None, "south"]),
    ([-3.4e38, 2.0**62, 2, 0, -0.5, np.nan], [float(np.float32(-3.4e38)), 2**62, "UA", False, -0.5, None]),
    # Beyond 2^63 a whole number is no int64.
    ([0.1, 2.0**63, 1, 1, 0.0, 0], [float(np.float32(0.1)), None, "DL", True, 0.0, "north"]),
    ([0.0, -(2.0**62), 1, 0, 1.5, 0], [0.0, -(2**62), "DL", False, 1.5, "north"]),
]


def make_block(task: str, keys: bool = True, time_us: int = NOON_US) -> Block:
    """Two requests, of three rows and of one, in a block with room for one more."""
    matrix = np.array([*(row for row, _ in ROWS), [7] * len(FEATURES)], dtype=np.float32)
    outputs = np.arange(15 if task == "multiclass" else 5, dtype=np.float32) / 16
    ids = bytes(range(5 * ID_BYTES))
    block = Block(ids, matrix, outputs.reshape(5, -1) if task == "multiclass" else outputs, used=4)
    said = Keys([["é".encode(), b"", b"k" * 64]], [NOON_US + 1, None, -1]) if keys else None
    block.requests.append(Recorded(time_us, 3, Context(b"r" * 64, 2, TRACE.encode()), said))
    block.requests.append(Recorded(time_us + 1, 1, Context(b"-"), None))
    return block


def write(folder: Path, contract: Contract, blocks: Iterable[Block]) -> None:
    """A spool file as the prediction log leaves it."""
    (folder / "spool").mkdir(exist_ok=True)
    file = SpoolFile(folder / "spool", PREDICTIONS, f"{contract.model}-v3")
    file.append(header(contract, 3))
    for block in blocks:
        file.append(frame(block, contract))
    file.finish()


def test_every_field_is_in_the_segment_as_it_was(task: Any, tmp_path: Path) -> None:
    contract = make_contract(task)
    write(tmp_path, contract, [make_block(task), make_block(task, keys=False)])
    assert make_segments(tmp_path) == 0
    assert waiting_files(tmp_path) == []
    texts: list[Any] = ["é", None, "k" * 64, *[None] * 5]
    moments: list[Any] = [NOON + timedelta(microseconds=1), None, datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)]
    outputs = np.arange(15) / 16
    if task == "multiclass":
        predictions: Any = [
            dict(zip(contract.label.classes, outputs[3 * i : 3 * i + 3], strict=True)) for i in range(4)
        ]
    else:
        predictions = outputs
    ids = bytes(range(5 * ID_BYTES)).hex()
    first = {"time": NOON, "role": "canary", "request_id": "r" * 64, "trace_id": TRACE}
    second = {"time": NOON + timedelta(microseconds=1), "role": "direct", "request_id": "-", "trace_id": None}
    assert read_rows(tmp_path) == [
        {
            "prediction_id": ids[2 * ID_BYTES * i : 2 * ID_BYTES * (i + 1)],
            "version": 3,
            **(second if i == 3 else first),
            "keys": {"flight_id": texts[4 * number + i]},
            "decision_time": [*moments, *[None] * 5][4 * number + i],
            "features": dict(zip(contract.feature_names, ROWS[i][1], strict=True)),
            "prediction": predictions[i],
        }
        for number in range(2)
        for i in range(4)
    ]


def test_types_are_those_of_the_contract(tmp_path: Path) -> None:
    write(tmp_path, make_contract("multiclass"), [make_block("multiclass")])
    make_segments(tmp_path)
    (path,) = segments(tmp_path)
    moment = pa.timestamp("us", tz="UTC")
    kinds = {"float": pa.float32(), "int": pa.int64(), "bool": pa.bool_(), "category": pa.string()}
    assert {field.name: field.type for field in pq.read_schema(path)} == {
        "prediction_id": pa.string(),
        "time": moment,
        "version": pa.int32(),
        "role": pa.string(),
        "request_id": pa.string(),
        "trace_id": pa.string(),
        "keys": pa.struct([("flight_id", pa.string())]),
        "decision_time": moment,
        "features": pa.struct([(feature.name, kinds[feature.type]) for feature in FEATURES]),
        "prediction": pa.struct([(name, pa.float32()) for name in ("early", "on_time", "late")]),
    }


def test_segments_read_as_one_table_by_model_and_day(tmp_path: Path) -> None:
    contract = make_contract("binary")
    # The day is that of the first row, in UTC.
    midnight_us = NOON_US + 12 * 3600 * 1_000_000
    for time_us in (NOON_US, midnight_us - 1, midnight_us):
        write(tmp_path, contract, [make_block("binary", time_us=time_us)])
    # A model may be called what a kind of file is.
    write(tmp_path, replace(contract, model="labels"), [make_block("binary")])
    assert make_segments(tmp_path) == 0
    table = ds.dataset(tmp_path / PREDICTIONS, partitioning="hive", format="parquet").to_table()
    found = {(row["model"], row["date"]) for row in table.to_pylist()}
    assert found == {("flight_delay", "2013-07-01"), ("flight_delay", "2013-07-02"), ("labels", "2013-07-01")}
    assert len(table) == 16


def test_rows_of_a_contract_whose_every_key_is_a_feature_have_no_keys(tmp_path: Path) -> None:
    contract = make_contract("binary")
    rows = replace(contract.rows, key="wind_speed", decision_time="distance")
    write(tmp_path, replace(contract, rows=rows), [make_block("binary", keys=False)])
    assert make_segments(tmp_path) == 0
    assert [one["keys"] for one in read_rows(tmp_path)] == [None] * 4
