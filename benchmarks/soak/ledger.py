"""What was sent and what became of it: every answer counted, and the prediction log held against them. Pure."""

import bisect
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

AT_A_KILL_S = 2.0
"""For so long after a process was killed, requests to its model may fail; fault 1 allows a hundredth of them to."""
UNLOGGED_S = 3.0
"""A process that is killed takes predictions of about the last second with it; on a busy machine it is longer."""
_DETAILS = 200


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    Attributes:
        number: its own; the log has it as its request id.
        began, ended: monotonic seconds.
        status: 0 when there was no answer.
        problem: what is wrong with that; empty when it is what was to come.
        row_count: predictions that were answered.
        mark: exclusive or of the first 64 bits of their ids.
        label_count: labels that were accepted.
        labels_in_doubt: labels that may have been kept although nobody got the answer.
        may_be_logged: rows of which the same is true.
    """

    kind: str
    model: str
    number: int
    began: float
    ended: float
    status: int
    problem: str = ""
    row_count: int = 0
    mark: int = 0
    label_count: int = 0
    labels_in_doubt: int = 0
    may_be_logged: int = 0


@dataclass(frozen=True)
class Kill:
    """A process that was killed."""

    what: str
    model: str
    at: float


@dataclass
class Failures:
    """Requests that did not get what was to come.

    Attributes:
        at_kills: those while or just after a process of their model was killed, and how many there were then at all.
        lost: all others, as sentences.
    """

    at_kills: Counter[str] = field(default_factory=Counter)
    requests_at_kills: int = 0
    lost: list[str] = field(default_factory=list)


class Ledger:
    """Takes outcomes from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[tuple[str, int]] = Counter()
        self.answered: dict[int, tuple[int, int]] = {}
        self.unanswered: dict[int, int] = {}
        self.label_count = self.labels_in_doubt = 0
        self._ended: dict[int, tuple[str, float]] = {}
        self._spans: list[tuple[str, float, float]] = []
        self._wrong: list[Outcome] = []

    def add(self, one: Outcome) -> None:
        """Count an outcome."""
        with self._lock:
            self.counts[one.kind, one.status] += 1
            self._spans.append((one.model, one.began, one.ended))
            self.label_count += one.label_count
            self.labels_in_doubt += one.labels_in_doubt
            if one.row_count:
                self.answered[one.number] = (one.row_count, one.mark)
                self._ended[one.number] = (one.model, one.ended)
            elif one.may_be_logged:
                self.unanswered[one.number] = one.may_be_logged
            if one.problem:
                self._wrong.append(one)

    @property
    def request_count(self) -> int:
        """Requests so far."""
        return len(self._spans)

    def failures(self, kills: Sequence[Kill]) -> Failures:
        """What went wrong, apart for what a kill explains."""
        found = Failures()
        by_model = _times(kills)
        for one in self._wrong:
            if _overlaps(by_model.get(one.model, []), one.began, one.ended, AT_A_KILL_S):
                found.at_kills[one.problem] += 1
            elif len(found.lost) < _DETAILS:
                found.lost.append(f"{one.kind} to {one.model}: {one.problem}")
            else:
                found.lost.append("…")
        found.requests_at_kills = sum(
            _overlaps(by_model.get(model, []), began, ended, AT_A_KILL_S) for model, began, ended in self._spans
        )
        return found

    def ended(self, number: int) -> tuple[str, float]:
        """Model and time of an answer."""
        return self._ended[number]


@dataclass(frozen=True)
class Logged:
    """What the log has for a request: rows, and the exclusive or of the first 64 bits of their ids."""

    row_count: int
    mark: int


@dataclass
class Account:
    """The log beside the answers, in rows.

    Attributes:
        answered: predictions that clients got.
        logged: predictions in the log.
        equal: of the answered, those that the log has with the same ids.
        lost_at_kills: answered at most `UNLOGGED_S` before a process of their model was killed, and not in the log.
        missing: other answered ones that are not in it.
        unanswered: in the log, of requests whose client left or got no answer.
        unexplained: in the log, of requests that nobody made, or more or others than were answered.
        latest_lost_s: longest time from a lost prediction to the kill that lost it.
    """

    answered: int = 0
    logged: int = 0
    equal: int = 0
    lost_at_kills: int = 0
    missing: int = 0
    unanswered: int = 0
    unexplained: int = 0
    latest_lost_s: float = 0.0


def account(ledger: Ledger, log: Mapping[int, Logged], kills: Sequence[Kill]) -> Account:
    """Hold the log against the answers, request by request."""
    found, by_model = Account(), _times(kills)
    for number, (row_count, mark) in ledger.answered.items():
        found.answered += row_count
        logged = log.get(number)
        if logged is None:
            model, ended = ledger.ended(number)
            age_s = _until_next(by_model.get(model, []), ended)
            if age_s <= UNLOGGED_S:
                found.lost_at_kills += row_count
                found.latest_lost_s = max(found.latest_lost_s, age_s)
            else:
                found.missing += row_count
        elif logged == Logged(row_count, mark):
            found.equal += row_count
        else:
            found.unexplained += logged.row_count
    for number, logged in log.items():
        found.logged += logged.row_count
        if number not in ledger.answered:
            if logged.row_count <= ledger.unanswered.get(number, 0):
                found.unanswered += logged.row_count
            else:
                found.unexplained += logged.row_count
    return found


def _times(kills: Sequence[Kill]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for kill in sorted(kills, key=lambda kill: kill.at):
        found.setdefault(kill.model, []).append(kill.at)
    return found


def _overlaps(times: Sequence[float], began: float, ended: float, after_s: float) -> bool:
    """Whether one of the times is in the span, or less than `after_s` before it."""
    at = bisect.bisect_left(times, began - after_s)
    return at < len(times) and times[at] <= ended


def _until_next(times: Sequence[float], moment: float) -> float:
    # A client may hear of its answer a little later than the process was killed.
    at = bisect.bisect_left(times, moment - 0.5)
    return max(times[at] - moment, 0.0) if at < len(times) else float("inf")
