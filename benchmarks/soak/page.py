"""The page docs/benchmarks/soak.md, and what on it is not as it should be. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.soak.events import LOOK_EVERY_S, Seen
from benchmarks.soak.growth import ALLOWED, UNITS, Series, Trend, longest, trend
from benchmarks.soak.ledger import AT_A_KILL_S, UNLOGGED_S, Account, Failures
from benchmarks.soak.segments import Log

HOUR_REQUESTS = 360_000
"""An hour at 100 requests a second."""
KEPT_ALLOWED: Mapping[str, float] = {
    "logs, kB": 400,
    "log of Traefik, kB": 5000,
    "spool, kB": 2000,
    "spool, files": 6,
    "metrics of workers, kB": 2000,
    "metrics of workers, files": 10,
    "page of `/metrics`, kB": 2,
}
"""Growth that still counts as none; that of the logs is what swaps and clients that leave are worth: they rotate."""
_MOST_AT_KILLS = 0.01


@dataclass(frozen=True)
class Result:
    """What was seen.

    Attributes:
        reloads: model to swaps of its processes by outcome.
        labels: accepted, and those whose request got no answer.
        said: program to what its log complains of.
    """

    minutes: float
    counts: Counter[tuple[str, int]]
    failures: Failures
    seen: Seen
    reloads: Mapping[str, Mapping[str, float]]
    account: Account
    log: Log
    labels: tuple[int, int]
    said: Mapping[str, Counter[str]]

    @property
    def warm_up_s(self) -> float:
        """What is left out of the trends."""
        return self.minutes * 60 / 4

    def held(self) -> dict[tuple[str, str], Trend]:
        """What process and what of it, to the trend of the one that lived longest."""
        groups: dict[tuple[str, str], list[Series]] = {}
        for (name, _, what), series in self.seen.held.items():
            groups.setdefault((name, what), []).append(series)
        trends = {key: trend(longest(every), self.warm_up_s) for key, every in groups.items()}
        return {key: found for key, found in trends.items() if found is not None}

    def kept(self) -> dict[str, Trend]:
        """What is on the disk, to its trend."""
        trends = {name: trend(series, self.warm_up_s) for name, series in self.seen.kept.items()}
        return {name: found for name, found in trends.items() if found is not None}

    def problems(self) -> list[str]:
        """What was lost or grew, in sentences."""
        found = [f"{count} times {what}" for what, count in Counter(self.failures.lost).items()]
        at_kills, all_then = self.failures.at_kills.total(), self.failures.requests_at_kills
        if at_kills > _MOST_AT_KILLS * all_then:
            found.append(f"{at_kills} of {all_then} requests failed at kills, more than {_MOST_AT_KILLS:.0%}")
        found += [f"not swapped: {one}" for one in self.seen.unswapped]
        account, (labels, in_doubt) = self.account, self.labels
        if account.missing > self.seen.dropped:
            found.append(f"{account.missing} predictions are not in the log, {self.seen.dropped:g} were counted")
        if account.unexplained or self.log.repeated_ids:
            found.append(f"the log has {account.unexplained + self.log.repeated_ids} predictions that nobody got")
        if not labels <= self.log.label_count <= labels + in_doubt:
            found.append(f"{labels} labels were accepted, {self.log.label_count} are in the log")
        if self.log.left_in_spool:
            found.append(f"{len(self.log.left_in_spool)} files were left in the spool")
        grown = [(f"{_with_unit(what)} of {name}", one, ALLOWED[what]) for (name, what), one in self.held().items()]
        grown += [(name, one, KEPT_ALLOWED[name]) for name, one in self.kept().items()]
        found += [f"{name.strip()} grew by {one.growth:.1f}" for name, one, allowed in grown if one.growth > allowed]
        return found


def page(result: Result, command: str, date: str, machine: str) -> str:
    """The whole page, in Markdown."""
    parts = [
        _head(result, command, date, machine),
        _verdict(result),
        _what(result),
        _requests(result),
        _log(result),
        _growth(result),
        _complaints(result),
        _method(result),
    ]
    return "\n\n".join(parts) + "\n"


def _head(result: Result, command: str, date: str, machine: str) -> str:
    return (
        "# The model service for a long time\n\n"
        f"`{command}`, {date}, {machine}. The real service behind the real proxy with its limits: mixed traffic, "
        "swaps, kills, bad bodies, slow clients and such that leave. Every answer is looked at, and the prediction log "
        "is held against them afterwards."
    )


def _verdict(result: Result) -> str:
    problems = result.problems()
    if not problems:
        return "**Nothing was lost, and nothing grew.**"
    return "\n".join(["**Not as it should be:**", "", *(f"- {one}" for one in problems)])


def _what(result: Result) -> str:
    requests, seen = result.counts.total(), result.seen
    kills = Counter(kill.what for kill in seen.kills)
    rows: list[tuple[str, str]] = [
        ("minutes", f"{result.minutes:g}"),
        ("requests", f"{requests:,}: {requests / HOUR_REQUESTS:.2f} hours' worth at 100 a second"),
        ("predictions answered", f"{result.account.answered:,}"),
        ("swaps to another version in place", _each(seen.swaps)),
        ("`kill -9`", _each(kills)),
        ("online store written anew", f"{seen.writes} times"),
        ("**lost requests**", f"**{len(result.failures.lost)}**"),
        ("failed while a process of their model was killed", _failed_at_kills(result)),
    ]
    return _table(("what", "how much"), rows)


def _each(counts: Counter[str]) -> str:
    parts = ", ".join(f"{count} of `{name}`" for name, count in sorted(counts.items()))
    return f"{counts.total()}: {parts}" if parts else "0"


def _failed_at_kills(result: Result) -> str:
    failures = result.failures
    of = f"of {failures.requests_at_kills:,} requests from a kill to {AT_A_KILL_S:g} s after it"
    how = ", ".join(f"{count} {what}" for what, count in failures.at_kills.most_common())
    return f"{failures.at_kills.total()} {of}{': ' if how else ''}{how}"


def _requests(result: Result) -> str:
    kinds = sorted({kind for kind, _ in result.counts})
    statuses = sorted({status for _, status in result.counts})
    rows = [(kind, *(f"{result.counts[kind, status]:,}" for status in statuses)) for kind in kinds]
    names = [str(status) if status else "none" for status in statuses]
    return "## Answers by status\n\n" + _table(("request", *names), rows)


def _log(result: Result) -> str:
    account, (labels, in_doubt) = result.account, result.labels
    rows = [
        ("predictions answered", account.answered),
        ("in the log with the same ids", account.equal),
        (f"not in it, answered at most {UNLOGGED_S:g} s before a kill of their service", account.lost_at_kills),
        ("not in it otherwise", account.missing),
        ("counted as dropped", int(result.seen.dropped)),
        ("in the log, of clients that left or got no answer", account.unanswered),
        ("in the log and not explained", account.unexplained + result.log.repeated_ids),
        ("in the log at all", account.logged),
        ("labels accepted", labels),
        ("labels whose request got no answer", in_doubt),
        ("labels in the log", result.log.label_count),
    ]
    roles = ", ".join(f"{role} {count:,}" for role, count in sorted(result.log.by_role.items()))
    return "\n\n".join(
        [
            "## The prediction log",
            _table(("", "rows"), [(name, f"{count:,}") for name, count in rows]),
            f"{result.log.segment_count} segments; by role: {roles}. The longest time from an answer to the kill that "
            f"lost its prediction was {account.latest_lost_s:.1f} s. Files in the spool after SIGTERM: "
            f"{len(result.log.left_in_spool)}.",
        ]
    )


def _growth(result: Result) -> str:
    header = ("process", "of it", "first", "last", "highest", "an hour", "growth", "")
    rows = [
        (name, _with_unit(what), *_trend(one, ALLOWED[what])) for (name, what), one in sorted(result.held().items())
    ]
    kept = [(name, *_trend(one, KEPT_ALLOWED[name])) for name, one in result.kept().items()]
    return "\n\n".join(
        [
            "## What is held over time",
            f"Looked at every {LOOK_EVERY_S:g} s; the first {result.warm_up_s:.0f} s are left out. Of processes that "
            "are killed and started again, the one that lived longest, if that is long enough.",
            _table(header, rows, text=2),
            _table(("on the disk", *header[2:]), kept),
        ]
    )


def _with_unit(what: str) -> str:
    return f"{what}, {UNITS[what]}" if UNITS[what] else what


def _trend(one: Trend, allowed: float) -> tuple[str, ...]:
    numbers = (one.first, one.last, one.highest)
    verdict = "flat" if one.growth <= allowed else "**grows**"
    return (*(f"{number:,.1f}" for number in numbers), f"{one.per_hour:+,.1f}", f"{one.growth:+,.1f}", verdict)


def _complaints(result: Result) -> str:
    lines = [
        f"- `{name}`, {count} times: {what}"
        for name, said in sorted(result.said.items())
        for what, count in said.most_common()
    ]
    return "\n".join(["## What the logs complain of", "", *(lines or ["Nothing."])])


def _method(result: Result) -> str:
    return (
        "## How\n\n"
        "Two models behind Traefik. `pair`: version 1 with two workers and version 2 with one process, half of the "
        "traffic each; of version 1 the younger worker is killed now and then, of version 2 the only process. "
        "`single`: one process, never killed. Both version 1 are swapped in place, by moving a link and SIGHUP, "
        "between two different estimators; each answer is compared with what the version that it names has to predict. "
        "All share one prediction log. A bad body has to get the very status that says what is wrong; a slow client "
        "has to be closed. A request is lost when it gets anything else, unless a process of its model was killed "
        f"meanwhile or at most {AT_A_KILL_S:g} s before. Slopes are by Theil and Sen, the median of the slopes between "
        "all pairs; growth is the slope times the time."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], text: int = 1) -> str:
    ruler = ["---" if column < text else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ruler, *rows))
