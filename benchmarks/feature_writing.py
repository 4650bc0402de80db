"""Reads of the online store while another process writes it, for benchmarks.features."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks.feature_project import ROOT, WIDE, Project
from serving.completion import Completion
from serving.online_store import OnlineStore

DEADLINE_S = 0.05


@dataclass(frozen=True)
class Written:
    """What reads met while Feast materialised.

    Attributes:
        reads_ms: how long each took.
        unread: how many did not get their values within the deadline.
    """

    took_s: float
    reads_ms: Sequence[float]
    unread: int


def while_written(project: Project, store: OnlineStore, keys_at_once: int | None) -> Written:
    """One row every 2 ms while another process materialises new values of the wide model."""
    root, home = project.settings.root, project.settings.home
    project.write_at_once(keys_at_once)
    # What is written again as it was, SQLite does not write.
    project.write_sources(WIDE, datetime.now(UTC) - timedelta(minutes=1), np.random.default_rng())
    code = (
        "from datetime import UTC, datetime\n"
        "from pathlib import Path\n"
        "import feast.feature_store\n"
        "from headrace.adapters.feast_store import FeastStore\n"
        "from headrace.documents import read_contract\n"
        "from headrace.settings import Settings\n"
        f"root = Path({str(root)!r})\n"
        f"contract = read_contract(root / 'models/{WIDE}/contract.yaml')\n"
        "print('begins', flush=True)\n"
        f"FeastStore(Settings(root=root, home=Path({str(home)!r}))).materialise(contract, datetime.now(UTC))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert writer.stdout is not None
    writer.stdout.readline()
    random = np.random.default_rng(3)
    completion = Completion(project.contracts[WIDE], store, DEADLINE_S, lambda: datetime.now(UTC))
    reads_ms: list[float] = []

    async def read() -> bool:
        rows: list[dict[str, Any]] = [*project.rows(WIDE, 1, random)]
        asked = time.perf_counter()
        completed = await completion.complete(rows)
        reads_ms.append((time.perf_counter() - asked) * 1e3)
        return bool(completed.fallbacks)

    async def read_on() -> int:
        # Whether or not the last one has its answer: clients do not wait for each other.
        reads = []
        while writer.poll() is None:
            reads.append(asyncio.create_task(read()))
            await asyncio.sleep(0.002)
        return sum(await asyncio.gather(*reads))

    began = time.perf_counter()
    unread = asyncio.run(read_on())
    if writer.wait() != 0:
        raise RuntimeError("the materialisation failed: see above")
    return Written(time.perf_counter() - began, reads_ms, unread)
