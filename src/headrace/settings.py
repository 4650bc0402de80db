"""The environment, read once: the only place that looks at `os.environ`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import UsageError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Settings:
    """Where things are. Every field but `root` has an environment variable, in `_FIELDS`.

    Attributes:
        root: the project: the folder with `models/` and `conf/`.
        home: everything that Headrace writes.
        http_port: where clients reach the models (Traefik).
        admin_port: Traefik's health, metrics and configuration, on loopback only.
        mlflow_port: the MLflow server.
        release_ports: first port for model services; each version takes the next free one.
        mlflow_uri: an MLflow server that is not ours; empty means that Headrace runs one.
        data_remote: DVC remote to use instead of the local folder, e.g. ``s3://bucket/path``; empty keeps what
            .dvc/config says.
        prediction_log: folder or s3:// URL for the segments of predictions and labels, instead of one in `home`.
        models: what `headrace up` puts in service when no model is named.
    """

    root: Path
    home: Path
    http_port: int = 8080
    admin_port: int = 8081
    mlflow_port: int = 5000
    release_ports: int = 18100
    mlflow_uri: str = ""
    data_remote: str = ""
    prediction_log: str = ""
    models: tuple[str, ...] = ("flight_delay",)

    @property
    def tracking_uri(self) -> str:
        """The MLflow server."""
        return self.mlflow_uri or f"http://{HOST}:{self.mlflow_port}"


_PORTS = ("http_port", "admin_port", "mlflow_port", "release_ports")


def variable(field: str) -> str:
    """The environment variable of a field, e.g. HEADRACE_HTTP_PORT."""
    return f"HEADRACE_{field.upper()}"


def read(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Settings:
    """Read the settings.

    Raises:
        UsageError: no project here, an unknown HEADRACE_ variable, or a port that is none.
    """
    environ = os.environ if environ is None else environ
    _refuse_unknown(environ)
    root = _project(environ, cwd or Path.cwd())
    values: dict[str, object] = {}
    for field in _PORTS:
        text = environ.get(variable(field), "")
        if text:
            values[field] = _port(variable(field), text)
    _refuse_shared(values)
    for field in ("mlflow_uri", "data_remote", "prediction_log"):
        values[field] = environ.get(variable(field), "")
    models = environ.get(variable("models"), "")
    if models:
        values["models"] = tuple(name.strip() for name in models.split(",") if name.strip())
    home = Path(environ.get(variable("home"), "") or root / ".headrace")
    return Settings(root=root, home=home.absolute(), **values)  # type: ignore[arg-type]


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = {variable(name) for name in (*Settings.__dataclass_fields__, "project", "run")} - {variable("root")}
    for name in environ:
        if name.startswith("HEADRACE_") and name not in known:
            raise UsageError(f"unknown environment variable {name}; known are {', '.join(sorted(known))}")


def _project(environ: Mapping[str, str], cwd: Path) -> Path:
    named = environ.get(variable("project"), "")
    candidates = [Path(named)] if named else [cwd, *cwd.parents]
    for folder in candidates:
        if (folder / "models").is_dir() and (folder / "conf").is_dir():
            return folder.resolve()
    raise UsageError(
        f"no Headrace project at {candidates[0]}{'' if named else ' or above it'}: "
        "it is the folder with models/ and conf/; go there, or name it in HEADRACE_PROJECT"
    )


def _refuse_shared(given: Mapping[str, object]) -> None:
    """One port for two things would let the first that starts keep the other from starting."""
    chosen = {field: given.get(field, Settings.__dataclass_fields__[field].default) for field in _PORTS}
    for field, port in chosen.items():
        others = [variable(name) for name, other in chosen.items() if other == port and name != field]
        if others:
            raise UsageError(f"{variable(field)} and {others[0]} are both {port}: give each a port of its own")


def _port(name: str, text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise UsageError(f"{name}={text!r} is not a port: give a number from 1 to 65535")
    return int(text)
