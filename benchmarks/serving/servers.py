"""Every server that is measured, and how it is started."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.serving import wire
from benchmarks.serving.environments import PEERS, ROOT
from benchmarks.serving.model import NAME
from benchmarks.serving.wire import Api

Engine = Literal["fixed", "sklearn", "onnx"]
# Several ports in a row: MLServer has one for gRPC and one for metrics as well.
PORTS = 3


@dataclass(frozen=True)
class Place:
    """Where a server is started.

    Attributes:
        python: the interpreter of its environment.
        port: the first of PORTS free ports.
        scratch: an empty directory that goes when the server goes.
        kept: what was written for the server before the first round.
        material: the model in its forms, and the fixed answers.
    """

    python: Path
    port: int
    scratch: Path
    kept: Path
    material: Path
    programs: Path

    def tool(self, name: str) -> str:
        """A command of the server's environment."""
        return str(self.python.with_name(name))

    def app(self, name: str, *arguments: str) -> list[str]:
        """The command of one of the apps in peers/, which takes its port first."""
        return [str(self.python), str(PEERS / name), str(self.port), *arguments]

    @property
    def answers(self) -> list[str]:
        """The files with the fixed answers, for one row and for a hundred."""
        return [str(self.material / f"answer_{n}.json") for n in (1, 100)]


@dataclass(frozen=True)
class Server:
    """One server.

    Attributes:
        name: for --only.
        engine: what answers inside.
        peer: its environment; None is the benchmark's own, which is Headrace's.
        api: how it is asked.
        prepare: a command that writes what `kept` holds.
        cwd: where it runs; None is its scratch directory.
        grace_s: how long it may take to end.
    """

    name: str
    label: str
    engine: Engine
    peer: str | None
    api: Api
    command: Callable[[Place], list[str]]
    environment: Callable[[Place], Mapping[str, str]] = lambda place: {}
    prepare: Callable[[Place], list[str]] | None = None
    cwd: Path | None = None
    grace_s: float = 5.0


def _headrace(place: Place, *more: str) -> list[str]:
    directory = str(place.material / "headrace")
    return [str(place.python), "-m", "serving", "--directory", directory, "--port", str(place.port), *more]


def _logging(place: Place) -> list[str]:
    return _headrace(place, "--prediction-log", str(place.scratch / "log"))


def _headrace_servers(has_log: bool) -> list[Server]:
    """Headrace with everything on, by each of its ways to ask, and without its log of predictions if it has one."""
    command = _logging if has_log else _headrace
    ways = {
        "headrace": ("**Headrace**", wire.ROWS, command),
        "headrace-oip-json": ("**Headrace**, OIP JSON", wire.OIP_JSON, command),
        "headrace-oip-binary": ("**Headrace**, OIP binary", wire.OIP_BINARY, command),
    }
    if has_log:
        ways["headrace-nolog"] = ("Headrace, no prediction log", wire.ROWS, _headrace)
    # At its end it makes segments of what is logged.
    return [
        Server(name, label, "onnx", None, api, start, cwd=ROOT, grace_s=30.0)
        for name, (label, api, start) in ways.items()
    ]


def _mlserver(engine: Engine, batching: bool) -> Server:
    implementation = "mlserver_onnx.OnnxModel" if engine == "onnx" else "mlserver_sklearn.SKLearnModel"

    def environment(place: Place) -> dict[str, str]:
        found = {
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": str(place.port),
            "MLSERVER_GRPC_PORT": str(place.port + 1),
            "MLSERVER_METRICS_PORT": str(place.port + 2),
            "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_MODEL_NAME": NAME,
            "MLSERVER_MODEL_IMPLEMENTATION": implementation,
            "MLSERVER_MODEL_URI": str(place.material / "estimator.joblib"),
            "PYTHONPATH": str(PEERS),
        }
        if batching:
            found |= {"MLSERVER_MODEL_MAX_BATCH_SIZE": "64", "MLSERVER_MODEL_MAX_BATCH_TIME": "0.002"}
        return found

    name, label = _variant("mlserver", "MLServer", engine, batching)
    start = lambda place: [place.tool("mlserver"), "start", str(place.scratch)]  # noqa: E731
    return Server(name, label, engine, "mlserver", wire.MLSERVER, start, environment)


def _bentoml(engine: Engine, batching: bool) -> Server:
    service = f"bentoml_app:{'BatchingModel' if batching else 'Model'}"
    name, label = _variant("bentoml", "BentoML", engine, batching)

    def start(place: Place) -> list[str]:
        options = ["--host", "127.0.0.1", "--port", str(place.port), "--working-dir", str(PEERS)]
        return [place.tool("bentoml"), "serve", service, *options]

    return Server(name, label, engine, "bentoml", wire.BARE_LISTS, start)


def _mlflow(engine: Engine) -> Server:
    name, label = _variant("mlflow", "mlflow models serve", engine)

    def start(place: Place) -> list[str]:
        options = ["--port", str(place.port), "--env-manager", "local", "--workers", "1"]
        return [place.tool("mlflow"), "models", "serve", "--model-uri", str(place.kept), *options]

    def save(place: Place) -> list[str]:
        return [str(place.python), str(PEERS / "mlflow_save.py"), str(place.kept)]

    return Server(name, label, engine, "mlflow", wire.MLFLOW, start, prepare=save)


def _app(peer: str, title: str, engine: Engine, app: str, api: Api, *, environment: str | None) -> Server:
    name, label = _variant(peer, title, engine)
    arguments = {"kserve": lambda place: [NAME], "ray": lambda place: [str(place.scratch)]}

    def start(place: Place) -> list[str]:
        return place.app(app, *arguments.get(peer, lambda place: [])(place))

    return Server(name, label, engine, environment, api, start)


def _variant(name: str, label: str, engine: Engine, batching: bool = False) -> tuple[str, str]:
    """The name and label of a peer with an engine and with or without batching."""
    name = f"{name}{'-onnx' if engine == 'onnx' else ''}{'-batching' if batching else ''}"
    return name, f"{label}{', batching' if batching else ''}"


def catalogue(has_log: bool) -> list[Server]:
    """All servers, in the order in which a round takes them."""
    fixed = wire.FIXED
    found = [
        Server(
            "floor",
            "C, epoll, fixed answer",
            "fixed",
            None,
            fixed,
            lambda place: [str(place.programs / "floor"), str(place.port), *place.answers],
        ),
        Server(
            "asgi",
            "uvicorn, raw ASGI, fixed answer",
            "fixed",
            None,
            fixed,
            lambda place: place.app("asgi_app.py", *place.answers),
        ),
        *_headrace_servers(has_log),
    ]
    engines: tuple[Engine, ...] = ("sklearn", "onnx")
    for engine in engines:
        found += [
            _app("naive", "FastAPI, naive", engine, "naive_app.py", wire.NAIVE, environment=None),
            _mlflow(engine),
            _mlserver(engine, batching=False),
            _mlserver(engine, batching=True),
            _bentoml(engine, batching=False),
            _bentoml(engine, batching=True),
            _app("litserve", "LitServe", engine, "litserve_app.py", wire.LISTS, environment="litserve"),
            _app("kserve", "KServe Python", engine, "kserve_app.py", wire.KSERVE, environment="kserve"),
            _app("ray", "Ray Serve", engine, "ray_app.py", wire.LISTS, environment="ray"),
        ]
    return found
