"""The loop on one machine, measured: python -m benchmarks.loop writes docs/benchmarks/loop.md.

Works in a fresh clone of the last commit with a home of its own, so that nothing is warm but the installed environment.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

from headrace.adapters.local import leftovers
from headrace.adapters.local.ports import next_free

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/benchmarks/loop.md"
HEADRACE = str(Path(sys.executable).with_name("headrace"))
IMPORTS = ("feast", "mlflow", "sklearn.ensemble", "pandera.pandas", "kfp", "onnxruntime", "fastapi")
STEPS = ("prepare", "train", "evaluate", "register", "deploy")


@dataclass
class Bench:
    """A clone, its home, and what was measured."""

    project: Path
    ports: list[int]
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        names = ("HEADRACE_HTTP_PORT", "HEADRACE_ADMIN_PORT", "HEADRACE_MLFLOW_PORT", "HEADRACE_RELEASE_PORTS")
        chosen = dict(zip(names, map(str, self.ports), strict=True))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        return kept | chosen | {"HEADRACE_PROJECT": str(self.project)}

    def headrace(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its output is for the caller."""
        return subprocess.run(
            [HEADRACE, *arguments], cwd=self.project, env=self.environment, check=True, capture_output=True, text=True
        )

    def python(self, code: str) -> str:
        """Run a piece of Python in the clone, in a process of its own, and return what it prints."""
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.project,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how many seconds the body took."""
        began = time.monotonic()
        yield
        self.figures[name] = time.monotonic() - began
        print(f"{name}: {self.figures[name]:.1f} s", file=sys.stderr)


def first_answer(bench: Bench) -> None:
    """`headrace up` from nothing, and the moment at which a client gets its first prediction."""
    url = f"http://127.0.0.1:{bench.ports[0]}/v1/models/flight_delay/predict"
    import yaml

    row = yaml.safe_load((ROOT / "models/flight_delay/contract.yaml").read_text())["example"]
    began, stop = time.monotonic(), threading.Event()

    def ask() -> None:
        with httpx.Client(trust_env=False, timeout=2) as client:
            while not stop.wait(0.2):
                try:
                    if client.post(url, json={"rows": [row]}).status_code == httpx.codes.OK:
                        bench.figures["up_to_first_answer_s"] = time.monotonic() - began
                        return
                except httpx.HTTPError:
                    continue

    client = threading.Thread(target=ask)
    client.start()
    try:
        with bench.timed("up_s"):
            bench.headrace("up")
        client.join(10)
    finally:
        stop.set()


def memory(bench: Bench) -> dict[str, float]:
    """Proportional set size of every process of this home, MB by program."""
    found: dict[str, float] = {}
    states = json.loads(bench.headrace("status", "--json").stdout)["processes"]
    for state in states:
        family = [psutil.Process(state["pid"]), *psutil.Process(state["pid"]).children(recursive=True)]
        found[state["name"]] = sum(process.memory_full_info().pss for process in family) / 1e6
    home = os.path.realpath(bench.project / ".headrace")
    found["supervisord"] = sum(psutil.Process(p.pid).memory_full_info().pss for p in leftovers.daemons(home)) / 1e6
    return found


def overhead(bench: Bench) -> dict[str, float]:
    """What the pipeline costs beyond its steps' own time: seconds a step, all of kfp's and the interpreter's included.

    A step's own time is what it takes from its first line to its last, imports of its libraries included; they are
    listed apart.
    """
    code = (
        "import json, time\n"
        "from headrace import bootstrap, settings\n"
        "from headrace.domain.request import TrainingRequest\n"
        "events = []\n"
        "runner = bootstrap.runner(settings.read())\n"
        "import kfp.local, pipelines.training\n"
        "began = time.monotonic()\n"
        "runner.submit(TrainingRequest('flight_delay', ('as_of=2013-08-01',), 'benchmark'), events.append)\n"
        "wall = time.monotonic() - began\n"
        "own = {e.step: e.elapsed_s for e in events if e.state == 'succeeded'}\n"
        "print(json.dumps({'wall': wall, **own}))\n"
    )
    own = json.loads(bench.python(code).splitlines()[-1])
    steps = {name: own[name] for name in STEPS if name in own}
    bench.figures["overhead_a_step_s"] = (own["wall"] - sum(steps.values())) / len(steps)
    return steps


def join(bench: Bench) -> None:
    """The point-in-time join of three months of flights by four views, beside Feast's own store on a hundred rows."""
    code = (
        "import time, yaml\n"
        "from feast import FeatureStore\n"
        "from feast.repo_config import RepoConfig\n"
        "from headrace import bootstrap, configuration, settings\n"
        "from headrace.domain.request import TrainingRequest\n"
        "from headrace.steps.plan import contract_of\n"
        "from headrace.steps.prepare import read_rows, split\n"
        "s = settings.read(); p = bootstrap.platform(s)\n"
        "contract = contract_of(p, 'flight_delay')\n"
        "config = configuration.compose(s.root, TrainingRequest('flight_delay'))\n"
        "rows = split(contract, config, read_rows(s.root, contract, config))[0]\n"
        "p.features.apply()\n"
        "p.features.training_frame(contract, rows.head(10))\n"
        "def timed(do):\n"
        "    began = time.monotonic(); do(); return time.monotonic() - began\n"
        "some = rows.sample(100, random_state=0)\n"
        "ours = timed(lambda: p.features.training_frame(contract, some))\n"
        "whole = timed(lambda: p.features.training_frame(contract, rows))\n"
        "repository = s.root / 'feature_repo'\n"
        "plain = yaml.safe_load((repository / 'feature_store.yaml').read_text())\n"
        "plain['registry']['path'] = str(s.home / 'feast/registry.db')\n"
        "plain['online_store']['path'] = str(s.home / 'feast/online.db')\n"
        "plain['offline_store'] = {'type': 'dask'}\n"
        "store = FeatureStore(config=RepoConfig(**plain, repo_path=repository))\n"
        "keys = some[list(contract.entities)].assign(event_timestamp=some[contract.rows.decision_time])\n"
        "keys = keys.reset_index(drop=True)\n"
        "service = store.get_feature_service('flight_delay')\n"
        "peer = timed(lambda: store.get_historical_features(entity_df=keys, features=service).to_df())\n"
        "print(len(rows), whole, ours, peer)\n"
    )
    found = map(float, bench.python(code).split()[-4:])
    bench.figures |= dict(zip(("join_rows", "join_s", "join_100_s", "feast_100_s"), found, strict=True))


def imports() -> dict[str, float]:
    """Seconds to import each library in a fresh interpreter, warm disk."""
    taken = {}
    for name in IMPORTS:
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", f"import {name}"], check=True, capture_output=True)
        taken[name] = time.monotonic() - began
    return taken


def page(bench: Bench, steps: dict[str, float], used: dict[str, float], taken: dict[str, float]) -> str:
    """The page, in Markdown."""
    f = bench.figures
    rows = [
        ("`make up` to the first answered prediction", f["up_to_first_answer_s"], "≤ 240 s"),
        ("`make up` until it returns", f["up_s"], ""),
        ("a second `make up`: nothing to do", f["noop_up_s"], "≤ 15 s"),
        ("the same `headrace run` twice: nothing to do", f["noop_run_s"], "≤ 15 s"),
        ("pipeline overhead a step", f["overhead_a_step_s"], "≤ 0.3 s"),
        (f"point-in-time join, {f['join_rows']:,.0f} rows, 4 views", f["join_s"], "≤ 20 s"),
        ("the same join, 100 rows", f["join_100_s"], ""),
        ("the same 100 rows by Feast's own file store (dask)", f["feast_100_s"], ""),
        ("`headrace rollback` until it returns", f["rollback_s"], ""),
        ("`headrace --help`", f["help_s"], "≤ 0.3 s"),
    ]
    lines = [
        "# The loop on one machine",
        "",
        f"`make bench`, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, Python {platform.python_version()}. A fresh clone, its own "
        "home, the environment installed; all flights, nothing sampled. Machines differ: compare ratios.",
        "",
        "| what | seconds | goal |",
        "|---|---:|---|",
        *(f"| {name} | {value:.2f} | {goal} |" for name, value, goal in rows),
        "",
        "Overhead is the pipeline's wall time less the steps' own, divided by their number: kfp, a shell, an "
        "interpreter. The steps of a run, with the imports of their libraries:",
        "",
        "| step | seconds |",
        "|---|---:|",
        *(f"| {name} | {value:.1f} |" for name, value in steps.items()),
        "",
        "| `import` in a fresh interpreter | seconds |",
        "|---|---:|",
        *(f"| {name} | {value:.1f} |" for name, value in taken.items()),
        "",
        f"Memory with two versions running (proportional set size): **{sum(used.values()):.0f} MB** of 1,536.",
        "",
        "| process | MB |",
        "|---|---:|",
        *(f"| {name} | {value:.0f} |" for name, value in sorted(used.items())),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure everything and write the page."""
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "headrace"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)  # noqa: S607
        first = next_free(23000)
        bench = Bench(project, [first, next_free(first + 1), next_free(first + 2), next_free(first + 10)])
        try:
            first_answer(bench)
            with bench.timed("noop_up_s"):
                bench.headrace("up")
            with bench.timed("noop_run_s"):
                bench.headrace("run", "flight_delay")
            steps = overhead(bench)
            used = memory(bench)
            with bench.timed("rollback_s"):
                bench.headrace("rollback", "flight_delay")
            with bench.timed("help_s"):
                bench.headrace("--help")
            join(bench)
        finally:
            bench.headrace("down")
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(bench, steps, used, imports()))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
