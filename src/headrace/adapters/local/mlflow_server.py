"""The MLflow server of the laptop: sqlite, artefacts through the server, loopback only.

Run as a module it migrates the database where that is due, and becomes the server.
"""

import os
import sys
from pathlib import Path

from headrace.settings import HOST, Settings

NAME = "mlflow"


def command(settings: Settings) -> tuple[str, ...]:
    """What to run."""
    return (sys.executable, "-m", __name__, str(settings.home / "mlflow"), str(settings.mlflow_port))


def environment() -> dict[str, str]:
    """What it needs in its environment: no job runner, nothing sent home, no pickle read."""
    return {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def _migrate(folder: Path, uri: str) -> None:
    """Bring an older database up to date; the server itself makes a new one."""
    from mlflow.version import VERSION

    seen = folder / "schema-of-mlflow"
    if (folder / "mlflow.db").exists() and (not seen.exists() or seen.read_text() != VERSION):
        from mlflow.store.db.utils import _upgrade_db, create_sqlalchemy_engine

        _upgrade_db(create_sqlalchemy_engine(uri))
    seen.write_text(VERSION)


def main(folder: Path, port: int) -> None:
    """Become the server."""
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    _migrate(folder, uri)
    address = f"http://{HOST}:{port}"
    arguments = [
        *("--host", HOST, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", uri, "--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"),
        # Only names of this machine, and only pages of this server: nobody else's page may talk to it.
        *("--allowed-hosts", f"{HOST}:{port},localhost:{port}"),
        *("--cors-allowed-origins", f"{address},http://localhost:{port}"),
    ]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])  # noqa: S606


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
