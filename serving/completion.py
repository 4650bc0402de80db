"""Rows that came with keys are completed from the online store, by the contract's rules and within a deadline."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from headrace.domain.contract import Contract
from serving.online_store import OnlineStore

Reason = Literal["absent", "stale", "future", "unreadable"]
"""Why a view had no usable value for a row: no value for the key, older than the contract allows, later than the row's
decision time, or not read within the deadline or not of the contract's type."""


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
        self._contract = contract

    async def complete(self, rows: Sequence[dict[str, Any]]) -> Completed:
        """Fill in the features of views that the rows do not hold, in place.

        A feature that a row holds is left as it is, null too; so is a row without the view's entity. The keys and the
        decision time stay in the row. Returns without giving way to other tasks when the store answers at once.

        Args:
            rows: decoded JSON.
        """
        return Completed()
