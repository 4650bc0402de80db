"""Rows that came with keys are completed from the online store, by the contract's rules and within a deadline."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from headrace.domain.contract import Contract
from serving.keys import TIME_FORM, microseconds
from serving.online_store import Asked, Found, OnlineStore
from serving.rows import PROBLEM_ROWS
from serving.view_values import Judged, Reason, ViewRules

Row = dict[str, Any]


@dataclass(slots=True)
class Completed:
    """What completing the rows of one request came to.

    Attributes:
        fallbacks: how many rows had no usable value, by view and reason; refused rows are counted too.
        ages_s: by view, how old each row's value was at its decision, stale ones too; never negative.
        problems: sentences about rows that are wrong (a decision time that is none): the client's fault.
        refused: sentences about rows that the contract's policy refuses for want of a value: not the client's fault.
    """

    fallbacks: Counter[tuple[str, Reason]] = field(default_factory=Counter)
    ages_s: Mapping[str, Sequence[float]] = field(default_factory=dict)
    problems: Sequence[str] = ()
    refused: Sequence[str] = ()


class Completion:
    """Completes rows for one contract from one store."""

    def __init__(self, contract: Contract, store: OnlineStore, deadline_s: float, now: Callable[[], datetime]) -> None:
        """Prepare for a contract.

        Args:
            contract: says the views, the ages and the policy.
            store: where the values are.
            deadline_s: how long one call of `complete` may wait for the store.
            now: the clock, with time zone.
        """
        self._views = tuple(ViewRules(contract, view) for view in contract.views)
        self._time = contract.rows.decision_time
        self._store = store
        self._deadline_s = deadline_s
        self._now = now

    async def complete(self, rows: Sequence[Row]) -> Completed:
        """Fill in the features of views that the rows do not hold, in place.

        A feature that a row holds is left as it is, null too; so is a row without the view's entity. The keys and the
        decision time stay in the row. A value has to be known at the row's decision time and at most the view's
        `max_age_h` old then; for a row that does not say when it is decided on, that is now, and a value that is a
        little ahead of this machine's clock is used.

        Returns without giving way to other tasks when the store answers at once.

        Args:
            rows: decoded JSON.
        """
        deadline = time.monotonic() + self._deadline_s
        wanted = [(rules, keys) for rules in self._views if (keys := _wanted(rules, rows))]
        if not wanted:
            return Completed()
        decided_s, problems = self._decided(rows)
        if problems:
            return Completed(problems=problems)
        asked = [Asked(rules.name, rules.entity, [*keys], rules.names) for rules, keys in wanted]
        found = await self._store.read(asked, deadline)
        filling = _Filling(rows, decided_s, self._now().timestamp(), self._time)
        for (rules, keys), values in zip(wanted, found, strict=True):
            filling.fill(rules, keys, values)
        return Completed(filling.fallbacks, filling.ages_s, refused=filling.refused())

    def _decided(self, rows: Sequence[Row]) -> tuple[Sequence[float | None], list[str]]:
        """When the rows that say so are decided on, seconds since 1970 UTC, and what is wrong with that."""
        decided_s: list[float | None] = []
        sentences: list[str] = []
        for position, row in enumerate(rows):
            said = row.get(self._time)
            moment = None if said is None else microseconds(said)
            decided_s.append(None if moment is None else moment / 1e6)
            if moment is None and said is not None and len(sentences) < PROBLEM_ROWS:
                sentences.append(f"rows[{position}]: {self._time!r} {TIME_FORM}")
        return decided_s, sentences


Positions = Mapping[str, Sequence[int]]


def _wanted(rules: ViewRules, rows: Sequence[Row]) -> Positions:
    """Each key once, with the positions of the rows that lack features of the view."""
    wanted: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        key = row.get(rules.entity)
        if type(key) is str and not row.keys() >= rules.names:
            wanted.setdefault(key, []).append(position)
    return wanted


class _Lack(NamedTuple):
    """A row that is refused: for want of all of a view, or of the one feature that is named."""

    position: int
    rules: ViewRules
    reason: Reason
    feature: str | None


class _Filling:
    """Fills rows from what was found, and counts."""

    def __init__(self, rows: Sequence[Row], decided_s: Sequence[float | None], now_s: float, decision: str) -> None:
        self.fallbacks: Counter[tuple[str, Reason]] = Counter()
        self.ages_s: dict[str, list[float]] = {}
        self._rows = rows
        self._decided_s = decided_s
        self._now_s = now_s
        self._decision = decision
        self._lacks: list[_Lack] = []

    def fill(self, rules: ViewRules, wanted: Positions, found: Found) -> None:
        """Fill the rows that want a view."""
        for key, positions in wanted.items():
            stored = found.get(key)
            if stored is None:
                nothing: Reason = "absent" if key in found else "unreadable"
                for position in positions:
                    self._lack(rules, position, nothing)
                continue
            judged = rules.judge(stored)
            for position in positions:
                untimely = self._untimely(rules, position, judged.event_time_s)
                if untimely is None:
                    self._take(rules, position, judged)
                else:
                    self._lack(rules, position, untimely)

    def _untimely(self, rules: ViewRules, position: int, event_time_s: float) -> Reason | None:
        decided_s = self._decided_s[position]
        if decided_s is not None and event_time_s > decided_s:
            return "future"
        age_s = (self._now_s if decided_s is None else decided_s) - event_time_s
        self.ages_s.setdefault(rules.name, []).append(max(age_s, 0.0))
        return "stale" if age_s > rules.max_age_s else None

    def _take(self, rules: ViewRules, position: int, judged: Judged) -> None:
        row = self._rows[position]
        if judged.lacking:
            lacking = {name: reason for name, reason in judged.lacking.items() if name not in row}
            self.fallbacks.update((rules.name, reason) for reason in set(lacking.values()))
            if rules.refuses and lacking:
                self._lacks += [_Lack(position, rules, reason, name) for name, reason in lacking.items()]
                return
        _fill(row, judged.values)

    def _lack(self, rules: ViewRules, position: int, reason: Reason) -> None:
        self.fallbacks[rules.name, reason] += 1
        if rules.refuses:
            self._lacks.append(_Lack(position, rules, reason, None))
        else:
            _fill(self._rows[position], rules.defaults)

    def refused(self) -> Sequence[str]:
        """Why rows are refused, of the first few."""
        if not self._lacks:
            return ()
        first = sorted({lack.position for lack in self._lacks})[:PROBLEM_ROWS]
        said = sorted((lack for lack in self._lacks if lack.position in first), key=lambda lack: lack.position)
        return [_sentence(lack, self._decision) for lack in said]


def _fill(row: Row, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name not in row:
            row[name] = value


def _sentence(lack: _Lack, decision: str) -> str:
    view, entity = f"rows[{lack.position}]: view {lack.rules.name!r}", f"this {lack.rules.entity!r}"
    if lack.feature is not None:
        what = "no" if lack.reason == "absent" else "an unusable"
        return f"{view} has {what} {lack.feature!r} for {entity}"
    match lack.reason:
        case "absent":
            return f"{view} has no value for {entity}"
        case "stale":
            return f"{view} has only a value older than {lack.rules.max_age_h:g} h for {entity}"
        case "future":
            return f"{view} has only a value later than {decision!r} for {entity}"
        case "unreadable":
            return f"{view} could not be read"
