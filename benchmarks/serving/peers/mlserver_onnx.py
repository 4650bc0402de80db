"""A runtime for MLServer with the same ONNX engine."""

from typing import Any

import engine
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, NumpyRequestCodec


class OnnxModel(MLModel):  # type: ignore[misc]
    """The model as MLServer's example of a custom runtime has it."""

    async def load(self) -> bool:
        """Load the model."""
        self.model = engine.load()
        return True

    async def predict(self, payload: Any) -> Any:
        """Predict."""
        from mlserver.types import InferenceResponse

        rows = self.decode_request(payload, default_codec=NumpyRequestCodec)
        output = NumpyCodec.encode_output("predict_proba", self.model(rows))
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
