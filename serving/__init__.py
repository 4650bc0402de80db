"""The model service: answers over HTTP for the one model version in a directory. It knows no registry."""

import os

# Official builds of onnxruntime report to their maker over the network, and keep a database at home for it, unless this
# is there before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# A process is one core's worth, and numpy multiplies nothing here: its threads would only be there.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
