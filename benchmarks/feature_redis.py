"""Online features by key from Redis, beside Feast's own ways to read them: python -m benchmarks.feature_redis.

Needs redis-server. Prints medians of CPU and wall time a call, all ways in turns, other keys in every round.
"""

import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.feature_project import Project, make
from benchmarks.features import CLASS, OURS, ROUNDS, SDK, Way, compare, sdk, service_way, store_class
from serving.online_store import open_store
from tests import databases

CALLS = {1: 200, 100: 8}


def taken(
    project: Project, model: str, ways: Mapping[str, Way], row_count: int
) -> Mapping[str, Sequence[tuple[float, float]]]:
    """Microseconds a call, CPU and wall, of each round; the first is not counted."""
    random = np.random.default_rng(2)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        calls = [project.rows(model, row_count, random) for _ in range(CALLS[row_count])]
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            gc.collect()
            began = time.process_time(), time.perf_counter()
            ways[name](calls)
            ended = time.process_time(), time.perf_counter()
            if turn > 0:
                times[name].append(((ended[0] - began[0]) / len(calls) * 1e6, (ended[1] - began[1]) / len(calls) * 1e6))
    return times


def measure(project: Project) -> Sequence[str]:
    """A line for each model, number of rows and way."""
    lines = []
    store = open_store(project.url)
    with asyncio.Runner() as runner, project.store._session("reading") as feast:
        for model in project.contracts:
            ways = {
                OURS: service_way(runner, store, project, model),
                SDK: sdk(feast, feast.get_feature_service(model), full=False),
                CLASS: store_class(feast, project, model),
            }
            compare(project, model, ways)
            for row_count in CALLS:
                times = taken(project, model, ways, row_count)
                theirs = [cpu for cpu, _ in times[SDK]]
                for name, ours in times.items():
                    cpu, wall = (statistics.median(column) for column in zip(*ours, strict=True))
                    ratio = statistics.median(a / b for (a, _), b in zip(ours, theirs, strict=True))
                    said = f"{cpu:,.0f} µs CPU, {ratio:.3f} of the SDK's; {wall:,.0f} µs"
                    lines.append(f"{model}, {row_count} rows, {name}: {said}")

        async def close() -> None:
            store.close()

        runner.run(close())
    return lines


def main() -> None:
    """Measure."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        tempfile.TemporaryDirectory() as folder,
        databases.redis(Path(folder)) as server,
    ):
        print(*measure(make(Path(scratch), datetime.now(UTC), server.url())), sep="\n")


if __name__ == "__main__":
    main()
