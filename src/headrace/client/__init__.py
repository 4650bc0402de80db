"""A typed client for model services: `Client`, and `AsyncClient` for asyncio.

    with Client("http://127.0.0.1:8080") as client:
        answer = client.predict("flight_delay", {"wind_speed": 12.5, ...})

It needs httpx and `headrace.errors`, and nothing else of Headrace. Both clients are thin: `conversation` says which
requests are sent and what their answers mean, they only send and wait.
"""

from headrace.client.asynchronous import AsyncClient
from headrace.client.clock import Clock
from headrace.client.predictions import (
    BinaryPrediction,
    Metadata,
    MulticlassPrediction,
    Prediction,
    Predictions,
    RegressionPrediction,
    Tensor,
)
from headrace.client.rows import RowsLike
from headrace.client.sync import Client

__all__ = [
    "AsyncClient",
    "BinaryPrediction",
    "Client",
    "Clock",
    "Metadata",
    "MulticlassPrediction",
    "Prediction",
    "Predictions",
    "RegressionPrediction",
    "RowsLike",
    "Tensor",
]
