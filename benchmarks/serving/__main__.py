"""The model service beside its peers: python -m benchmarks.serving [--quick] [--only NAME,...]."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import FrameType

import yaml

from benchmarks.serving import engines, environments, figures, goals, machine, model, page, profile, running, swaps
from benchmarks.serving.environments import BENCH, HERE, ROOT
from benchmarks.serving.generator import Generator
from benchmarks.serving.process import adopt_orphans, end_descendants
from benchmarks.serving.rounds import CONTROLLED, Lengths, Rounds
from benchmarks.serving.servers import Server, catalogue
from headrace.errors import HeadraceError, UsageError

PAGE = ROOT / "docs/benchmarks/serving.md"
ROUNDS, SWAPS = 3, 100
QUICK, QUICK_SWAPS = Lengths(warm=0.1, closed=0.25, open=0.5), 10
# Environment to the package that is measured.
PEERS = ("mlflow", "mlserver", "bentoml", "litserve", "kserve", "ray")


@dataclass(frozen=True)
class Plan:
    """How much is measured, and where.

    Attributes:
        niceness: of servers and generator.
    """

    lengths: Lengths
    rounds: int
    swaps: int
    cores: machine.Cores
    niceness: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the page if it was a full run.

    Returns:
        The exit code: 0, 130 after Ctrl-C, else that of the error in `headrace.errors`.
    """
    options = _parser().parse_args(arguments)
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, _stop)
    try:
        adopt_orphans()
        _run(options)
    except HeadraceError as problem:
        print(f"benchmark: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("benchmark: stopped", file=sys.stderr)
        return 130
    finally:
        end_descendants()
    return 0


def _stop(sig: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--only", default="", help="names of servers, with commas between; --list says which there are")
    parser.add_argument("--list", action="store_true", help="say which servers there are, and do nothing else")
    parser.add_argument("--quick", action="store_true", help="one round of short loads, to see that all works")
    parser.add_argument("--rounds", type=int, help=f"how many times over all servers ({ROUNDS})")
    nice = "niceness of servers and generator, for a machine that has other work; less than 0 is for root"
    parser.add_argument("--nice", type=int, default=0, help=nice)
    return parser


def _run(options: argparse.Namespace) -> None:
    began = time.monotonic()
    servers = catalogue(has_log=_has_flag("--prediction-log"))
    if options.list:
        print("\n".join(server.name for server in servers))
        return
    chosen = _choose(servers, options.only)
    plan = Plan(
        lengths=QUICK if options.quick else Lengths(),
        rounds=options.rounds or (1 if options.quick else ROUNDS),
        swaps=QUICK_SWAPS if options.quick else SWAPS,
        cores=machine.cores(),
        niceness=options.nice,
    )
    results = _measure(chosen, servers[0], plan)
    run = page.Run(
        command=_command(options),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=machine.description(),
        rounds=plan.rounds,
        lengths=(plan.lengths.closed, plan.lengths.open),
        cores=(plan.cores.generator, plan.cores.server),
        minutes=(time.monotonic() - began) / 60,
        versions={peer: environments.versions(peer)[peer] for peer in PEERS},
    )
    text = page.page(run, chosen, results, goals.judge(goals.goals(), results, _reasons()))
    if not (options.only or options.quick):
        PAGE.write_text(text)
    print(text)


def _measure(servers: list[Server], floor: Server, plan: Plan) -> figures.Results:
    # The benchmark shares the generator's core, which is idle while the benchmark works.
    os.sched_setaffinity(0, {plan.cores.generator})
    generator = Generator(environments.compiled("load"), plan.cores.generator, plan.niceness)
    environments.compiled("floor")
    material = model.prepare(BENCH / "model")
    running.write_answers(material)
    bench = running.Bench(material, plan.cores.server, BENCH / "requests", plan.niceness)
    bench.requests.mkdir(exist_ok=True)
    rounds = Rounds(bench, generator, plan.lengths)
    _prepare(servers, rounds, material)
    try:
        for number in range(plan.rounds):
            print(f"round {number + 1} of {plan.rounds}", file=sys.stderr)
            rounds.measure(servers, floor)
    finally:
        rounds.save(BENCH / "last.json")
    results = figures.summarise(rounds.cells, rounds.lives, rounds.failed)
    results = replace(results, engines=engines.measure(material, plan.cores.server))
    return _look_closer(servers, results, bench, generator, plan.swaps)


def _choose(servers: list[Server], only: str) -> list[Server]:
    names = [name for name in only.split(",") if name]
    known = [server.name for server in servers]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"no such server: {', '.join(unknown)}; there are {', '.join(known)}")
    return [server for server in servers if not names or server.name in names]


def _prepare(servers: list[Server], rounds: Rounds, material: model.Material) -> None:
    """Build what is to be built; whoever can't be built is in the page with its reason."""
    for server in servers:
        try:
            running.prepare(server, material)
        except HeadraceError as problem:
            rounds.failed[server.name] = str(problem)
            print(f"  {server.name} can't be measured: {problem}", file=sys.stderr)


def _look_closer(
    servers: list[Server], results: figures.Results, bench: running.Bench, generator: Generator, count: int
) -> figures.Results:
    server = next((server for server in servers if server.name == CONTROLLED), None)
    ours = results.figures.get((CONTROLLED, 1))
    if server is None or ours is None or ours.open is None:
        return results
    return replace(
        results,
        swaps=swaps.measure(server, bench, generator, ours.open.rate, count),
        profile=profile.measure(server, bench, generator),
    )


def _has_flag(flag: str) -> bool:
    """Whether the service has it."""
    command = [sys.executable, "-m", "serving", "--help"]
    return flag in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _reasons() -> dict[str, str]:
    return yaml.safe_load((HERE / "reasons.yaml").read_text()) or {}


def _command(options: argparse.Namespace) -> str:
    more = [f"--only {options.only}"] if options.only else []
    more += ["--quick"] if options.quick else []
    more += [f"--rounds {options.rounds}"] if options.rounds else []
    more += [f"--nice {options.nice}"] if options.nice else []
    return " ".join(["python -m benchmarks.serving", *more]) if more else "make bench-serving"


if __name__ == "__main__":
    sys.exit(main())
