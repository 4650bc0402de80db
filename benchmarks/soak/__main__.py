"""python -m benchmarks.soak writes docs/benchmarks/soak.md, and exits with 1 when something was lost or grew."""

import argparse
import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.soak import segments
from benchmarks.soak.clients import Client, Traffic, running
from benchmarks.soak.events import Events
from benchmarks.soak.ledger import account
from benchmarks.soak.material import DIRECTORIES, Estimator
from benchmarks.soak.page import Result, page
from benchmarks.soak.rude import Leaver, Slow
from benchmarks.soak.shots import Shots
from benchmarks.soak.stage import ROOT, Stage

PAGE = ROOT / "docs/benchmarks/soak.md"
_CLIENTS = 12
_SLOW = 4


def main() -> int:
    """Run it, write the page; whether all is well, as an exit code."""
    options = _options()
    result = measure(options.minutes, options.rate)
    text = page(result, _command(options), f"{datetime.now(UTC):%Y-%m-%d}", _machine())
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)
    print(text)
    return 1 if result.problems() else 0


def measure(minutes: float, rate: float) -> Result:
    """Put everything up, have it out, take it down, and hold the log against the answers."""
    print("training two versions", file=sys.stderr)
    estimators = {name: Estimator(seed) for seed, name in enumerate(DIRECTORIES, start=1)}
    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as folder:
        stage = Stage(Path(folder))
        try:
            stage.start(estimators)
            traffic = Traffic(stage.url, Shots(estimators))
            clients = [Client(traffic, seed, rate / _CLIENTS) for seed in range(_CLIENTS)]
            rude = [*(Slow(traffic, 100 + n, 0.5) for n in range(_SLOW)), Leaver(traffic, 200, 0.2)]
            events = Events(stage, traffic)
            with running([*clients, *rude], traffic.over):
                events.run(minutes * 60)
            reloads = {model: stage.reloads(model) for model in events.seen.swaps}
        finally:
            stage.close()
        log = segments.read(stage.log, ROOT)
        kills = events.seen.kills
        return Result(
            minutes=minutes,
            counts=traffic.ledger.counts,
            failures=traffic.ledger.failures(kills),
            seen=events.seen,
            reloads=reloads,
            account=account(traffic.ledger, log.requests, kills),
            log=log,
            labels=(traffic.ledger.label_count, traffic.ledger.labels_in_doubt),
            said={state.name: stage.said(state.name) for state in stage.processes.states()},
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--rate", type=float, default=660.0, help="requests a second (default: 660)")
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write the page")
    return parser.parse_args()


def _command(options: argparse.Namespace) -> str:
    given = sys.argv[1:]
    return "make bench-soak" if not given else f"python -m benchmarks.soak {shlex.join(given)}"


def _machine() -> str:
    from benchmarks.serving.machine import description

    return description()


if __name__ == "__main__":
    sys.exit(main())
