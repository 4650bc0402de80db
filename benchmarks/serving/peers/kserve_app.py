"""KServe's Python server with a custom model, version 1 of its protocol: kserve_app.py PORT NAME.

gRPC is off. KServe listens on every address and has no flag against it, so that is changed here.
"""

import sys
from typing import Any

import engine
import kserve
from kserve import model_server


class LoopbackServer(model_server.RESTServer):  # type: ignore[misc]
    """KServe's server, on 127.0.0.1."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.config.host = "127.0.0.1"


class Model(kserve.Model):  # type: ignore[misc]
    """The model as KServe's example of a custom predictor has it."""

    def load(self) -> bool:
        """Load the model."""
        self.model = engine.load()
        self.ready = True
        return True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Predict."""
        return {"predictions": self.model(payload["instances"]).tolist()}


if __name__ == "__main__":
    port, name = int(sys.argv[1]), sys.argv[2]
    # KServe reads the command line as well.
    sys.argv = sys.argv[:1]
    model_server.RESTServer = LoopbackServer
    model = Model(name)
    model.load()
    kserve.ModelServer(http_port=port, workers=1, enable_grpc=False).start([model])
