"""What was predicted, as the recorder gathers it and the prediction log takes it."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.domain.encoding import Matrix
from serving.context import Context
from serving.keys import Keys

ID_BYTES = 16


class Recorded(NamedTuple):
    """One request in a block: when it was answered (microseconds since 1970 UTC), how many rows, and what it said."""

    time_us: int
    row_count: int
    context: Context
    keys: Keys | None


@dataclass
class Block:
    """Predictions in the order in which they were made; the first `used` rows of the arrays are filled.

    Attributes:
        ids: random bytes, `ID_BYTES` for each row; the id of a prediction is their hexadecimal form.
        matrix: rows as the model took them, (capacity, n_features).
        outputs: what it answered, (capacity,) or (capacity, n_classes).
    """

    ids: bytes
    matrix: Matrix
    outputs: NDArray[np.float32]
    requests: list[Recorded] = field(default_factory=list)
    used: int = 0

    @property
    def capacity(self) -> int:
        """How many rows its memory is for, used or not."""
        return len(self.matrix)
