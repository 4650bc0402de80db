"""Ray Serve with one replica: ray_app.py PORT DIRECTORY. Without its dashboard, which it can do without."""

import sys
import threading
from typing import Any

import engine
import ray
from ray import serve


@serve.deployment(max_ongoing_requests=128)
class Model:
    """The model as Ray's first example has it."""

    def __init__(self) -> None:
        self.model = engine.load()

    async def __call__(self, request: Any) -> dict[str, Any]:
        """Predict."""
        return {"predictions": self.model((await request.json())["rows"]).tolist()}


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, _temp_dir=sys.argv[2])
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Model.bind(), route_prefix="/predict")  # type: ignore[attr-defined]
    threading.Event().wait()
