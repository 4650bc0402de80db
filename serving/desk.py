"""What a service process keeps while the versions that it serves come and go."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from headrace.domain.contract import Contract
from serving.blocks import Block
from serving.completion import Completion
from serving.label_log import LabelLog
from serving.limits import Limits
from serving.metrics import Families
from serving.model import LoadedModel
from serving.online_store import OnlineStore
from serving.prediction_log import PredictionLog
from serving.refusals import Refusal


class Desk:
    """Limits, metrics, logs and stores of a process.

    Attributes:
        draining: no more requests are wanted; those that come are still answered.
        in_flight: requests under way.
        labels: where labels are kept; None when they are not.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        families: Families | None = None,
        log: PredictionLog | None = None,
        labels: LabelLog | None = None,
        store: OnlineStore | None = None,
        store_deadline_s: float = 0.05,
    ) -> None:
        self.limits = limits or Limits()
        self.families = families or Families()
        self.labels = labels
        self.log = log
        self.draining = False
        self.in_flight = 0
        self._store = store
        self._store_deadline_s = store_deadline_s
        if log is not None and labels is not None:
            # In the log's thread: it waits for a disk, and the event loop must not.
            log.also(labels.rotate)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for a request while it is under way.

        Raises:
            Refusal: 503 all are taken.
        """
        if self.full:
            raise Refusal(503, "too many requests are under way: try again", {"Retry-After": "1"})
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    @property
    def full(self) -> bool:
        """Whether as many requests are under way as may be."""
        return self.in_flight >= self.limits.in_flight

    def block_log(self, model: LoadedModel) -> Callable[[Block], None] | None:
        """Where the recorder of a version sends its blocks."""
        return partial(self.log.put, model.contract, model.version) if self.log else None

    def completion(self, contract: Contract) -> Completion | None:
        """What completes the rows of a contract; None when nothing does."""
        if self._store is None or not contract.views:
            return None
        return Completion(contract, self._store, self._store_deadline_s, partial(datetime.now, UTC))

    def tick(self) -> None:
        """What has to be done every second or so; waits for nothing."""
        self.families.in_flight.set(self.in_flight)

    def close(self) -> bool:
        """Write what is not written yet; whether that is so now."""
        if self.labels is not None:
            self.labels.rotate(everything=True)
        return self.log is None or self.log.close()
