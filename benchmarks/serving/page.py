"""The page docs/benchmarks/serving.md. Pure, but for the date and the machine, which are arguments."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.serving.figures import Figures, Results
from benchmarks.serving.goals import CONTROL, HEADRACE, Verdict, number, per_cpu
from benchmarks.serving.servers import Engine, Server

_ENGINES: Mapping[Engine, str] = {"fixed": "none", "sklearn": "scikit-learn", "onnx": "ONNX"}


@dataclass(frozen=True)
class Run:
    """What the page says of the run itself.

    Attributes:
        lengths: seconds of a closed and of an open loop.
        versions: server's package to version, by environment.
    """

    command: str
    date: str
    machine: str
    rounds: int
    lengths: tuple[float, float]
    cores: tuple[int, int]
    minutes: float
    versions: Mapping[str, str]


def page(run: Run, servers: list[Server], results: Results, verdicts: list[Verdict]) -> str:
    """The whole page, in Markdown."""
    parts = [
        _head(run),
        _goals(verdicts),
        _table(servers, results, 1),
        _table(servers, results, 100),
        _connections(servers, results),
        _whole_server(servers, results),
        _more(results),
        _profile(results),
        _method(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(run: Run) -> str:
    rounds, minutes = _counted(run.rounds, "round"), _counted(round(run.minutes), "minute")
    return (
        "# The model service beside its peers\n\n"
        f"`{run.command}`, {run.date}, {run.machine}. {rounds} over all servers, medians; {minutes}. "
        "Machines differ: compare ratios."
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _rows(header: list[str], right: int, rows: list[list[str]]) -> str:
    """A Markdown table; columns from `right` on are numbers."""
    align = ["---" if i < right else "---:" for i in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, align, *rows))


def _goals(verdicts: list[Verdict]) -> str:
    words = {True: "met", False: "**missed**", None: "not measured"}
    rows = [[v.goal.text, v.goal.wanted, v.found, words[v.met], v.reason or _no_reason(v)] for v in verdicts]
    missed = sum(v.met is False for v in verdicts)
    said = f"{missed} of {len(verdicts)} goals are missed." if missed else "No goal is missed."
    return f"## Goals\n\n{said}\n\n" + _rows(["goal", "wanted", "measured", "", "why"], 5, rows)


def _no_reason(verdict: Verdict) -> str:
    return "no reason is written down yet" if verdict.met is False else ""


def _table(servers: list[Server], results: Results, rows: int) -> str:
    title = "One row a request" if rows == 1 else f"{rows} rows a request"
    header = ["server", "engine", "CPU µs a request", "Headrace's requests a CPU-second beside it", "requests/s"]
    header += ["p50 ms", "p99 ms", "p99.9 ms", "lost"]
    lines = []
    for server in servers:
        figures = results.figures.get((server.name, rows))
        name = [server.label, _ENGINES[server.engine]]
        if figures and figures.answered:
            ratio = per_cpu(HEADRACE, server.name, rows)(results)
            lines.append([*name, number(figures.cpu_us), _times(ratio), *_speeds(figures)])
        else:
            lines.append([*name, "", "", "", "", "", "", ""])
    return f"## {title}\n\n" + _rows(header, 2, lines)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{number(ratio)} x"


def _speeds(figures: Figures) -> list[str]:
    opened = figures.open
    late = ["", "", ""]
    if opened:
        p999 = "" if opened.p999_ms is None else number(opened.p999_ms)
        late = [number(opened.p50_ms), number(opened.p99_ms), p999]
    return [number(figures.per_s), *late, str(figures.lost)]


def _connections(servers: list[Server], results: Results) -> str:
    """Closed loops by connections, requests/s and p99."""
    some = sorted({c for figures in results.figures.values() for c in figures.closed})
    header = ["server", "engine", *(f"{rows} x {c}" for rows in (1, 100) for c in some)]
    lines = []
    for server in servers:
        cells = []
        for rows in (1, 100):
            figures = results.figures.get((server.name, rows))
            closed = figures.closed if figures else {}
            cells += [f"{number(closed[c].per_s)} ({number(closed[c].p99_ms)})" if c in closed else "" for c in some]
        lines.append([server.label, _ENGINES[server.engine], *cells])
    return (
        "## Requests a second by connections\n\nRows a request x connections, closed loop; in brackets p99 in ms.\n\n"
        + _rows(header, 2, lines)
    )


def _whole_server(servers: list[Server], results: Results) -> str:
    lines = []
    for server in servers:
        life = results.lives.get(server.name)
        why = results.failed.get(server.name, "")
        found = [number(life.start_s), number(life.memory_mb)] if life else ["", ""]
        lines.append([server.label, _ENGINES[server.engine], *found, why.replace("|", "/")])
    header = ["server", "engine", "start to first answer, s", "memory after load, MB", "why there are no figures"]
    if not results.failed:
        header, lines = header[:-1], [line[:-1] for line in lines]
    return "## Start and memory\n\n" + _rows(header, 2, lines)


def _more(results: Results) -> str:
    """What the log costs, the swaps, and the control."""
    parts = []
    ours, bare = results.figures.get((HEADRACE, 1)), results.figures.get(("headrace-nolog", 1))
    ours_many, bare_many = results.figures.get((HEADRACE, 100)), results.figures.get(("headrace-nolog", 100))
    if ours and bare and ours_many and bare_many:
        parts.append(
            f"The prediction log costs {number(ours.cpu_us - bare.cpu_us)} µs of CPU a request of one row and "
            f"{number(ours_many.cpu_us - bare_many.cpu_us)} µs a request of a hundred; what makes Parquet of it runs "
            f"beside, and used {number(results.lives[HEADRACE].ending_cpu_s)} s of CPU when the service had ended."
        )
    if results.swaps:
        swaps = results.swaps
        parts.append(
            f"{swaps.count} hot swaps within {swaps.took_s:.0f} s at {swaps.rate:,.0f} requests/s: "
            f"{swaps.load.ok:,} answers, {swaps.load.lost} lost, p50 {number(swaps.load.latency.p50 / 1000)} ms, "
            f"p99 {number(swaps.load.latency.p99 / 1000)} ms, worst {number(swaps.load.latency.max / 1000)} ms."
        )
    return "\n\n".join(["## The log, swaps, and the machine's own share", *parts, _control(results)])


def _control(results: Results) -> str:
    lines = []
    for name, title in ((HEADRACE, "Headrace"), (CONTROL, "C, fixed answer, at the same rate")):
        for rows in (1, 100):
            figures = results.figures.get((name, rows))
            if figures and figures.open:
                o = figures.open
                found = [number(o.rate), number(o.p50_ms), number(o.p99_ms), number(o.worst_ms), number(o.lag_p99_ms)]
                lines.append([title, str(rows), *found, f"{o.waited_share:.1%}"])
    header = ["open loop", "rows", "requests/s", "p50 ms", "p99 ms", "worst ms", "generator late, p99 ms", "waited"]
    if not lines:
        return ""
    return (
        "The same load on the C server shows what the machine and the generator add by themselves. *Waited* is the "
        "share of the time that threads of the server were ready to run while something else had its core: on Linux "
        "without full pre-emption another program keeps a core until the next tick, 4 ms at 250 Hz.\n\n"
        + _rows(header, 1, lines)
    )


def _profile(results: Results) -> str:
    alone = results.engines
    parts = ["## Where the processor time goes"]
    if alone:
        parts.append(
            f"The engines alone, without a server: ONNX Runtime {number(alone['onnx', 1])} µs for one row and "
            f"{number(alone['onnx', 100])} µs for a hundred, scikit-learn {number(alone['sklearn', 1])} µs and "
            f"{number(alone['sklearn', 100])} µs."
        )
    if results.profile:
        lines = [[name, f"{share:.1f}"] for name, share in results.profile.items()]
        parts.append(
            "Headrace, one row a request, closed loop, by `perf`; *libpython* or *python* is the interpreter, all "
            "Python code included.\n\n" + _rows(["library", "%"], 1, lines)
        )
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _method(run: Run) -> str:
    closed, opened = run.lengths
    peers = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return f"""## How it is measured

- **One model**: scikit-learn's HistGradientBoostingClassifier with its defaults, 30 features (22 floats, 5 ints, 3
  optional floats), trained by the benchmark on 10,000 made-up rows. Peers *as shipped* have it as scikit-learn, in
  their own native format; *ONNX* is the same model exported, in ONNX Runtime with one thread, inside each of them.
- **Right first**: before it is loaded, each server answers all 64 requests of one row and all 64 of a hundred, and
  every probability is compared with scikit-learn's (1e-5). A wrong answer ends the run. Under load the same requests
  are sent in turn; only 2xx counts, and everything else is *lost*.
- **Cores**: the server, with all its processes, on core {run.cores[1]}; the load generator, a C program over epoll
  with keep-alive, on core {run.cores[0]}.
- **CPU a request** is the processor time of all processes of the server, ended children included, divided by its
  answers, in the closed loop with the most requests/s of 1, 16 and 64 connections. It is the first metric because it
  is what a core costs, and the least disturbed.
- **Latencies** of the tables are of an open loop at half of each server's own peak over 64 connections, counted from
  the moment at which a request was to be sent. p99.9 is given when there were a thousand answers.
- **Rounds**: every server in turn is started, checked, loaded {closed:g} s for each closed loop and {opened:g} s for
  each open one, and ended; then all again. Medians over the rounds.
- **Memory** is the proportional set size of all processes after load.
- Headrace has everything on: validation, metrics, request ids, and its prediction log where the table says nothing
  else. Peers keep the defaults that they are shipped with, access logs included, which go to a file; MLServer runs
  without its worker process, Ray Serve without its dashboard, KServe without gRPC, FastAPI and raw ASGI without an
  access log, and MLflow's model has no signature, which makes all of them faster. Each has one worker. KServe is asked
  by version 1 of its protocol. MLServer's batching takes up to 64 requests within
  2 ms; BentoML's is its adaptive one.
- Peers: {peers}."""
