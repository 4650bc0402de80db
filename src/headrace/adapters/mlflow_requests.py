"""What MLflow's client must not do on its way to the server."""

import os
from urllib.parse import urlsplit


def leave_feast_out() -> None:
    """Keep Feast's plug-in out of MLflow's requests.

    It would import all of Feast, six seconds in every process, to send MLflow a token: of MLFLOW_TRACKING_TOKEN, which
    MLflow sends by itself, or else the pod's service account token, which is not MLflow's to see.
    """
    from mlflow.utils import plugins

    every = plugins.get_entry_points
    plugins.get_entry_points = lambda group: [e for e in every(group) if not e.value.startswith("feast.")]
    try:
        import mlflow.tracking.request_header.registry  # noqa: F401 - plug-ins are loaded when it is imported
    finally:
        plugins.get_entry_points = every


def reach_directly(uri: str) -> None:
    """Keep a proxy of the environment away from a server on this machine; requests would send it there."""
    host = urlsplit(uri).hostname or ""
    if host in ("127.0.0.1", "localhost"):
        spared = [os.environ[name] for name in ("NO_PROXY", "no_proxy") if os.environ.get(name)]
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(dict.fromkeys([*spared, host]))
