"""Numbering, counting and handing over of what was predicted."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from serving.blocks import ID_BYTES, Block
from serving.context import Context
from serving.keys import Keys
from serving.loading import load
from serving.metrics import Families, Metrics
from serving.model import LoadedModel
from serving.recorder import Recorder

ROWS = 1024


@dataclass
class Bench:
    """A recorder, and what comes out of it."""

    model: LoadedModel
    families: Families = field(default_factory=Families)
    blocks: list[Block] = field(default_factory=list)
    logs: bool = True

    def __post_init__(self) -> None:
        log = self.blocks.append if self.logs else None
        self.recorder = Recorder(self.model, Metrics(self.model, self.families), log)

    def add(self, count: int, mark: float = 0.0, keys: Keys | None = None) -> list[str]:
        """Record some rows whose features and outputs all have the value `mark`."""
        matrix = np.full((count, len(self.model.contract.features)), mark, dtype=np.float32)
        shape = (count, 3) if self.model.contract.task == "multiclass" else (count,)
        context = Context(b"request-%d" % mark, int(mark) % 5)
        return self.recorder.add(matrix, np.full(shape, mark, dtype=np.float32), context, keys)

    def count(self, name: str, *labels: str) -> float:
        return getattr(self.families, name).labels("flight_delay", "3", *labels)._value.get()

    def logged(self) -> dict[str, tuple[float, float, bytes]]:
        """Id to a feature, the output and the request's id, of every row in a block."""
        found = {}
        for block in self.blocks:
            digits = block.ids.hex()
            requests = [one.context.request_id for one in block.requests for _ in range(one.row_count)]
            assert len(requests) == block.used
            for i, request_id in enumerate(requests):
                name = digits[2 * ID_BYTES * i : 2 * ID_BYTES * (i + 1)]
                assert name not in found
                found[name] = (float(block.matrix[i, 0]), float(block.outputs[i].max()), request_id)
        return found


@pytest.fixture
def bench(directories: dict[str, Path]) -> Callable[..., Bench]:
    def make(task: str = "binary", **options: bool) -> Bench:
        return Bench(load(directories[task]), **options)

    return make


def test_every_row_is_handed_over_once_under_the_id_that_was_answered(task: str, bench: Callable[..., Bench]) -> None:
    one = bench(task)
    expected = {}
    for mark, count in enumerate([1, 3, 1, ROWS - 6, 1, 1, ROWS, 5, ROWS + 1, 10_000, 1, 2 * ROWS]):
        ids = one.add(count, mark)
        assert len(ids) == len(set(ids)) == count
        assert all(len(bytes.fromhex(name)) == ID_BYTES for name in ids)
        expected |= dict.fromkeys(ids, (mark, mark, b"request-%d" % mark))
    one.recorder.seal()
    assert one.logged() == expected
    assert one.count("rows") == len(expected)
    # A request is in one block, and a block is filled as far as it goes.
    assert [block.used for block in one.blocks] == [ROWS, 1, ROWS, 5, ROWS + 1, 10_000, 1, 2 * ROWS]
    assert [one.blocks[i].capacity for i in (0, 4, 5)] == [ROWS, ROWS + 1, 10_000]
    one.recorder.seal()
    assert len(one.blocks) == 8


def test_what_is_recorded_meanwhile_from_other_threads_is_neither_lost_nor_mixed_up(
    bench: Callable[..., Bench],
) -> None:
    one = bench()
    begin = threading.Barrier(4)

    def add(thread: int) -> dict[str, tuple[float, float, bytes]]:
        begin.wait(20)
        found = {}
        for step in range(150):
            mark = thread * 1000 + step
            ids = one.add((1, 7, 300, 1500)[thread] if step % 50 == 0 else 1, mark)
            one.recorder.answered(200, 0.001)
            found |= dict.fromkeys(ids, (mark, mark, b"request-%d" % mark))
            if step % 10 == 0:
                one.recorder.seal()
        return found

    expected: dict[str, tuple[float, float, bytes]] = {}
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(add, range(4)):
            assert not expected.keys() & found.keys()
            expected |= found
    one.recorder.seal()
    assert one.logged() == expected
    assert one.count("rows") == len(expected)
    assert one.count("requests", "200") == 600


def test_recorded_moments_keys_and_roles_are_the_requests(bench: Callable[..., Bench]) -> None:
    one = bench()
    keys = Keys([[b"a", b"b"]], [None, 5])
    one.add(2, 3.0, keys)
    one.add(1, 4.0)
    one.recorder.seal()
    (block,) = one.blocks
    assert [(r.row_count, r.context.role, r.keys) for r in block.requests] == [(2, 3, keys), (1, 4, None)]
    assert block.requests[0].time_us <= block.requests[1].time_us


def test_counts_without_a_log(bench: Callable[..., Bench]) -> None:
    one = bench(logs=False)
    one.add(3)
    one.add(2000)
    one.recorder.seal()
    assert one.count("rows") == 2003


def test_answers_are_counted_in_bulk_and_none_is_kept_for_ever(bench: Callable[..., Bench]) -> None:
    one = bench()
    statuses = Counter({200: 3000, 400: 40, 503: 5})
    for status in statuses.elements():
        one.recorder.answered(status, 0.002)
    # Without anybody asking, most are counted already.
    assert one.count("requests", "200") >= 3000 - ROWS
    one.recorder.seal()
    assert {status: one.count("requests", str(status)) for status in statuses} == dict(statuses)
    duration = one.families.duration.labels("flight_delay", "3")
    assert sum(bucket.get() for bucket in duration._buckets) == statuses.total()
    one.recorder.seal()
    assert one.count("requests", "200") == 3000
    assert one.blocks == []
