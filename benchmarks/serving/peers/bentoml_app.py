"""BentoML: the service `Model` answers each request by itself, `BatchingModel` takes several at once."""

from typing import Annotated

import bentoml
import engine
import numpy as np
from bentoml.validators import DType

Rows = Annotated[np.ndarray, DType("float32")]


@bentoml.service(workers=1)
class Model:
    """Without batching."""

    def __init__(self) -> None:
        self.model = engine.load()

    @bentoml.api
    def predict(self, rows: Rows) -> np.ndarray:
        """Predict."""
        return self.model(rows)  # type: ignore[no-any-return]


@bentoml.service(workers=1)
class BatchingModel:
    """With BentoML's adaptive batching."""

    def __init__(self) -> None:
        self.model = engine.load()

    @bentoml.api(batchable=True, max_batch_size=6400, max_latency_ms=1000)
    def predict(self, rows: Rows) -> np.ndarray:
        """Predict."""
        return self.model(rows)  # type: ignore[no-any-return]
