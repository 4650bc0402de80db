"""LitServe: litserve_app.py PORT."""

import sys
from typing import Any

import engine
import litserve


class Model(litserve.LitAPI):
    """The API as LitServe's first example has it."""

    def setup(self, device: str) -> None:
        """Load the model, in the worker."""
        self.model = engine.load()

    def decode_request(self, request: dict[str, Any]) -> Any:
        """The rows."""
        return request["rows"]

    def predict(self, rows: Any) -> Any:
        """Predict."""
        return self.model(rows)

    def encode_response(self, predictions: Any) -> dict[str, Any]:
        """The answer."""
        return {"predictions": predictions.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Model(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
