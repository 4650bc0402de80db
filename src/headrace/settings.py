"""The environment, read once: the only place that looks at `os.environ`."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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
        online_store: redis:// URL of the online store; empty means a file in `home`.
        feast_registry: SQLAlchemy URL of Feast's registry (``postgresql+psycopg://…``); empty means a file in `home`.
        context: which family of adapters: local, or cluster; what follows is for the latter.
        namespace: where the models run.
        store: ``s3://bucket/prefix`` for model directories, predictions and what rollouts saw.
        store_reached_at: where this process reaches the bucket, if it is not AWS; of AWS_ENDPOINT_URL.
        store_endpoint: where services in the cluster reach the bucket, if it is not AWS.
        store_region: of the bucket.
        store_secret: Secret with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for model services.
        online_store_secret: Secret with the key `url`, for model services; empty when they need no online store.
        serving_image: the service's image, by digest or tag.
        chart_values: YAML file with more values for the chart: replicas, resources, who is let in; empty means none.
        proxy_url: where clients reach the models.
        proxy_service: Traefik's Service, ``namespace/name``.
        prometheus_url: the Prometheus that scrapes the models.
        kfp_url: the API of Kubeflow Pipelines.
        components_image: the image of the pipelines' steps; empty means the one that was compiled in.
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
    online_store: str = field(default="", repr=False)
    feast_registry: str = field(default="", repr=False)
    context: str = "local"
    namespace: str = "headrace"
    store: str = ""
    store_reached_at: str = ""
    store_endpoint: str = ""
    store_region: str = "us-east-1"
    store_secret: str = "headrace-store"  # noqa: S105 - its name
    online_store_secret: str = ""
    serving_image: str = ""
    chart_values: str = ""
    proxy_url: str = "http://traefik.traefik.svc"
    proxy_service: str = "traefik/traefik"
    prometheus_url: str = "http://prometheus.monitoring.svc:9090"
    kfp_url: str = "http://ml-pipeline.kubeflow.svc:8888"
    components_image: str = ""

    @property
    def tracking_uri(self) -> str:
        """The MLflow server."""
        if self.mlflow_uri or self.context == "local":
            return self.mlflow_uri or f"http://{HOST}:{self.mlflow_port}"
        raise UsageError(f"in a cluster, {variable('mlflow_uri')} has to name the MLflow server")

    def required(self, field: str) -> str:
        """The value of a field that a cluster needs.

        Raises:
            UsageError: it is empty.
        """
        value = str(getattr(self, field))
        if not value:
            raise UsageError(f"{variable(field)} is not set: {_NEEDED[field]}")
        return value


_PORTS = ("http_port", "admin_port", "mlflow_port", "release_ports")
_TEXTS = tuple(
    name
    for name, one in Settings.__dataclass_fields__.items()
    if one.type in ("str", str) and name not in ("root", "home", "store_reached_at")
)
_CONTEXTS = ("local", "cluster")
_NEEDED = {
    "store": "give the s3:// URL where model directories are kept",
    "serving_image": "give the image of the model service",
}


def variable(field: str) -> str:
    """The environment variable of a field, e.g. HEADRACE_HTTP_PORT."""
    return f"HEADRACE_{field.upper()}"


def read(environ: Mapping[str, str] | None = None, cwd: Path | None = None, context: str = "") -> Settings:
    """Read the settings.

    Args:
        environ: instead of the process's own.
        cwd: where the project is looked for.
        context: instead of what the environment says.

    Raises:
        UsageError: no project here, an unknown HEADRACE_ variable, or a port that is none.
    """
    environ = os.environ if environ is None else environ
    _refuse_unknown(environ)
    root = _project(environ, cwd or Path.cwd())
    values: dict[str, object] = {}
    for name in _PORTS:
        text = environ.get(variable(name), "")
        if text:
            values[name] = _port(variable(name), text)
    _refuse_shared(values)
    for name in _TEXTS:
        if text := environ.get(variable(name), ""):
            values[name] = text
    if endpoint := environ.get("AWS_ENDPOINT_URL", ""):
        values["store_reached_at"] = endpoint
    if context:
        values["context"] = context
    _refuse_odd(values)
    models = environ.get(variable("models"), "")
    if models:
        values["models"] = tuple(name.strip() for name in models.split(",") if name.strip())
    home = Path(environ.get(variable("home"), "") or root / ".headrace")
    return Settings(root=root, home=home.absolute(), **values)  # type: ignore[arg-type]


def _refuse_odd(given: Mapping[str, object]) -> None:
    context = given.get("context", "local")
    if context not in _CONTEXTS:
        raise UsageError(f"{variable('context')}={context!r} is unknown: it is {' or '.join(_CONTEXTS)}")
    store = str(given.get("store", ""))
    if store and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[A-Za-z0-9._/-]*)?", store):
        raise UsageError(f"{variable('store')}={store!r} is not of the form s3://bucket/prefix")
    service = str(given.get("proxy_service", "traefik/traefik"))
    if service.count("/") != 1 or not all(service.split("/")):
        raise UsageError(f"{variable('proxy_service')}={service!r} is not of the form namespace/name")


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = {variable(name) for name in (*Settings.__dataclass_fields__, "project", "run")} - {
        variable("root"),
        variable("store_reached_at"),
    }
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
    chosen = {one: given.get(one, Settings.__dataclass_fields__[one].default) for one in _PORTS}
    for name, port in chosen.items():
        others = [variable(one) for one, other in chosen.items() if other == port and one != name]
        if others:
            raise UsageError(f"{variable(name)} and {others[0]} are both {port}: give each a port of its own")


def _port(name: str, text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise UsageError(f"{name}={text!r} is not a port: give a number from 1 to 65535")
    return int(text)
