"""Online features by key, beside Feast's own ways to read them: python -m benchmarks.features.

Writes docs/benchmarks/features.md. All read one file, which Feast has written, in one process and in turns; before
anything is measured, their answers are compared.
"""

import asyncio
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.feature_project import (
    ROOT,
    WIDE,
    WIDE_FEATURES,
    WIDE_KEYS,
    WIDE_VIEWS,
    Project,
    feast_store,
    make,
    precompute,
)
from benchmarks.feature_writing import DEADLINE_S, Written, while_written
from benchmarks.serving.machine import description
from serving.completion import Completion
from serving.online_store import OnlineStore, open_store

PAGE = ROOT / "docs/benchmarks/features.md"
ROUNDS = 30
CALLS = {1: 200, 100: 8}
AT_ONCE = (None, 250)
OURS, SDK, VECTORS, CLASS = "Headrace", "Feast SDK", "Feast SDK, precomputed vectors", "Feast's store class alone"
TITLES = {
    "flight_delay": "`flight_delay`: 12 features in 4 views of 3 entities",
    WIDE: "50 features in 5 views of 1 entity",
}

Keys = Sequence[dict[str, str]]
# Calls to answers: one call has the keys of one request's rows.
Way = Callable[[Sequence[Keys]], list[Any]]


@dataclass(frozen=True)
class Time:
    """Medians over the rounds: microseconds of CPU a call, and the ratio to the SDK in the same round."""

    call_us: float
    ratio: float


@contextmanager
def ways_of(project: Project, store: OnlineStore) -> Iterator[Mapping[str, Mapping[str, Way]]]:
    """Model to name to way of reading its features."""
    feast = feast_store(project)
    services = {model: feast.get_feature_service(model) for model in project.contracts}
    vectors = precompute(feast)
    with asyncio.Runner() as runner:
        found = {
            model: {
                OURS: service_way(runner, store, project, model),
                SDK: sdk(feast, service, full=False),
                CLASS: store_class(feast, project, model),
            }
            for model, service in services.items()
        }
        found[WIDE][VECTORS] = sdk(feast, vectors, full=True)
        yield found


def service_way(runner: asyncio.Runner, store: OnlineStore, project: Project, model: str) -> Way:
    """As the service completes rows."""
    completion = Completion(project.contracts[model], store, 60, lambda: datetime.now(UTC))

    async def read(calls: Sequence[Keys]) -> list[Any]:
        answers = []
        for keys in calls:
            rows: list[dict[str, Any]] = [dict(row) for row in keys]
            completed = await completion.complete(rows)
            if completed.fallbacks:
                raise RuntimeError(f"not everything was found: {completed.fallbacks}")
            answers.append(rows)
        return answers

    return lambda calls: runner.run(read(calls))


def sdk(feast: Any, service: Any, full: bool) -> Way:
    """As Feast's documentation has it."""

    def read(keys: Keys) -> dict[str, list[Any]]:
        return dict(feast.get_online_features(service, entity_rows=[*keys], full_feature_names=full).to_dict())

    return lambda calls: [read(keys) for keys in calls]


def store_class(feast: Any, project: Project, model: str) -> Way:
    """`online_read` of each view, as the SDK calls it and with nothing around it: messages in, messages out."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    online, config = feast._get_provider().online_store, feast.config
    views = [(feast.get_feature_view(name), view.entity) for name, view in project.contracts[model].views.items()]

    def read(keys: Keys) -> list[Any]:
        answers = []
        for view, entity in views:
            names = dict.fromkeys(row[entity] for row in keys)
            wanted = [EntityKey(join_keys=[entity], entity_values=[Value(string_val=name)]) for name in names]
            answers.append(online.online_read(config, view, wanted))
        return answers

    return lambda calls: [read(keys) for keys in calls]


def compare(project: Project, model: str, ways: Mapping[str, Way]) -> None:
    """Raise unless the ways that give values by feature give the same."""
    keys = project.rows(model, 100, np.random.default_rng(1))
    (rows,) = ways[OURS]([keys])
    for name, prefix in ((SDK, ""), (VECTORS, "{view}__")):
        if name in ways:
            (theirs,) = ways[name]([keys])
            for feature in project.contracts[model].features:
                column = theirs.get(prefix.format(view=feature.view) + feature.name)
                if feature.view is not None and column != [row[feature.name] for row in rows]:
                    raise RuntimeError(f"{name} and {OURS} differ in {feature.name}")


def measure(project: Project, model: str, ways: Mapping[str, Way], row_count: int) -> dict[str, Time]:
    """All ways in turns, every round with other keys: what was read a moment ago is in every cache."""
    random = np.random.default_rng(2)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        calls = [project.rows(model, row_count, random) for _ in range(CALLS[row_count])]
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            gc.collect()
            began = time.process_time()
            ways[name](calls)
            elapsed_s = time.process_time() - began
            if turn > 0:
                taken[name].append(elapsed_s / len(calls) * 1e6)
    return {
        name: Time(statistics.median(times), statistics.median(map(float.__truediv__, times, taken[SDK])))
        for name, times in taken.items()
    }


def footprint(imports: str) -> tuple[float, float]:
    """Seconds to import something in a fresh interpreter, warm disk, and the process's memory after it, MB."""
    code = (
        "import time; began = time.perf_counter()\n"
        f"{imports}\n"
        "took = time.perf_counter() - began\n"
        "import psutil; print(took, psutil.Process().memory_info().rss / 1e6)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    took, memory = map(float, ran.stdout.split())
    return took, memory


def page(times: Mapping[tuple[str, int], Mapping[str, Time]], written: Mapping[int | None, Written]) -> str:
    """The page, in Markdown."""
    goal = max(ways[OURS].ratio for (_, rows), ways in times.items() if rows == 1)
    table = [
        f"| {TITLES[model]} | {rows} | {name} | {one.call_us:,.0f} | {one.ratio:.3f} |"
        for (model, rows), ways in times.items()
        for name, one in sorted(ways.items(), key=lambda way: way[1].call_us)
    ]
    lines = [
        "# Online features by key",
        "",
        f"`make bench-features`, {datetime.now(UTC):%Y-%m-%d}, {description()}. One SQLite file that Feast's "
        f"materialisation wrote, read in one process, all ways in turns, {ROUNDS} rounds with other keys each; medians "
        "of CPU time, and of the ratios within a round. Machines differ: compare ratios.",
        "",
        "| what | rows | read by | CPU, µs a call | of the SDK's |",
        "|---|---:|---|---:|---:|",
        *table,
        "",
        f"Goal: one row in at most 0.2 of the SDK's time. The largest ratio of one row: **{goal:.3f}**.",
        "",
        *_WAYS,
        "",
        "## While Feast writes",
        "",
        f"One row every 2 ms while another process materialises {WIDE_KEYS * WIDE_VIEWS * WIDE_FEATURES:,} new values "
        f"into the same file; the deadline is {DEADLINE_S * 1e3:.0f} ms. Feast's `online_write_batch_size` says how "
        "many keys of a view are one transaction.",
        "",
        "| keys a transaction | took, s | reads | p50, ms | p99, ms | fell back |",
        "|---|---:|---:|---:|---:|---:|",
        *(_written(keys, one) for keys, one in written.items()),
        "",
        "A transaction that does not fit in SQLite's page cache holds the file locked until it ends.",
        "",
        "## What a process has to load",
        "",
        "| | import, s | memory, MB |",
        "|---|---:|---:|",
        *("| {} | {:.2f} | {:.0f} |".format(name, *footprint(imports)) for name, imports in _IMPORTS.items()),
        "",
    ]
    return "\n".join(lines)


def _written(keys: int | None, one: Written) -> str:
    p50, p99 = np.percentile(one.reads_ms, [50, 99])
    count = len(one.reads_ms)
    share = f"{one.unread / count:.1%}"
    return f"| {keys or 'all, the default'} | {one.took_s:.1f} | {count:,} | {p50:.2f} | {p99:.1f} | {share} |"


_IMPORTS = {"Feast": "import feast", "Headrace's reader": "import serving.completion, serving.feast_sqlite"}
_WAYS = (
    "- *Headrace* is `Completion.complete`: rows with keys to rows with every value in its place, type and age of each",
    "  value checked, fallbacks applied and counted. It keeps no value from one call to the next.",
    "- *Feast SDK* is `get_online_features(...).to_dict()`, the feature service at hand. It checks no age.",
    "- *Precomputed vectors* (`precompute_online=True`) are one message a key instead of one row a value. Feast 0.67",
    "  makes them in Redis only; for this table its own messages were written into the file by its own store class.",
    "  They need one entity for all views, so `flight_delay` can't have them.",
    "- *Feast's store class alone* is `online_read` of each view and nothing around it: no values by name, no ages.",
)


def main() -> None:
    """Measure everything and write the page."""
    with tempfile.TemporaryDirectory() as scratch:
        project = make(Path(scratch), datetime.now(UTC))
        store = open_store(project.url)
        times = {}
        with ways_of(project, store) as found:
            for model, ways in found.items():
                compare(project, model, ways)
                for row_count in CALLS:
                    times[model, row_count] = measure(project, model, ways, row_count)
                    print(f"{model}, {row_count} rows: {times[model, row_count]}", file=sys.stderr)
        written = {keys: while_written(project, store, keys) for keys in AT_ONCE}
        store.close()
    PAGE.write_text(page(times, written))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
