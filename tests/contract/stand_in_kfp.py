"""A server that speaks KFP's v2beta1 API as its client library knows it, and runs what it is given.

What comes in is read with KFP's own models and its own parsers; a pipeline's tasks are run as KFP's launcher runs them,
the next one with every look at a run.
"""

import json
import subprocess
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.cluster.steps import PipelineRun, Task, run_here

BEGAN = datetime(2013, 7, 1, tzinfo=UTC)
API = "/apis/v2beta1"


class Refused(Exception):
    """An answer that is none: status and the server's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StandInKfp(ThreadingHTTPServer):
    """Args:
    folder: for what tasks write, and where they run.
    environment: of the tasks.
    """

    daemon_threads = True

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.environment = environment
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.models = kfp_server_api.ApiClient()
        self.runs: dict[str, Run] = {}
        self.recurring: dict[str, Any] = {}
        self.experiments: dict[str, Any] = {}
        # What is answered instead, one a request.
        self.faults: list[Refused] = []
        # Called before a run is made, with what was asked: another client may be faster.
        self.before_run: Callable[[Any], None] = lambda asked: None
        self.multi_user = False
        self.token = ""

    def read(self, body: bytes, kind: str) -> Any:
        """A request's body as KFP's own model; a key that the model lacks is refused."""
        known = getattr(kfp_server_api, kind).attribute_map.values()
        unknown = sorted(set(json.loads(body)) - set(known))
        if unknown:
            raise Refused(400, f"unknown fields {unknown}")
        return self.models.deserialize(SimpleNamespace(data=body), kind)

    def make(self, asked: Any) -> "Run":
        """Make a run of what was asked."""
        try:
            made = Run(self, asked)
        except ValueError as wrong:
            raise Refused(400, str(wrong)) from wrong
        self.runs[made.model.run_id] = made
        return made

    def stamp(self, count: int) -> datetime:
        return BEGAN + timedelta(seconds=count)


class Run:
    """A run: what was asked, and how far it is."""

    def __init__(self, server: StandInKfp, asked: Any) -> None:
        self.model = asked
        self.text = checked(asked.pipeline_spec)
        asked.run_id = str(uuid.uuid4())
        asked.state = "PENDING"
        asked.created_at = server.stamp(len(server.runs))
        self._server = server
        parameters = (asked.runtime_config.parameters if asked.runtime_config else None) or {}
        folder = server.folder / "artefacts"
        self._run = PipelineRun(self.text, parameters, str(folder), asked.run_id)
        self._tasks = self._run.tasks()
        self._current: Task | None = None
        self.details: list[Any] = []

    def look(self) -> None:
        """Begin the next task, or run the one that has begun to its end."""
        if self.model.state not in ("PENDING", "RUNNING"):
            return
        self.model.state = "RUNNING"
        if self._current is None:
            self._current = next(self._tasks, None)
            if self._current is None:
                self._end("SUCCEEDED")
            else:
                self._note(f"{self._current.name}-driver", "SUCCEEDED")
                self._note(self._current.name, "RUNNING")
            return
        try:
            output = run_here(
                self._current, self._server.folder, self._server.environment, self._server.folder / "log.txt"
            )
        except subprocess.CalledProcessError:
            self.details[-1].state = "FAILED"
            self._end("FAILED")
        else:
            self._run.finished(self._current, output)
            self.details[-1].state = "SUCCEEDED"
            self.details[-1].end_time = self.details[-1].start_time + timedelta(seconds=7)
            self._current = None

    def terminate(self) -> None:
        self._end("CANCELED")

    def _end(self, state: str) -> None:
        self.model.state = state
        self.model.run_details = kfp_server_api.V2beta1RunDetails(task_details=self.details)

    def _note(self, name: str, state: str) -> None:
        started = self._server.stamp(100 + len(self.details))
        self.details.append(
            kfp_server_api.V2beta1PipelineTaskDetail(
                run_id=self.model.run_id,
                task_id=str(uuid.uuid4()),
                display_name=name,
                state=state,
                start_time=started,
            )
        )
        self.model.run_details = kfp_server_api.V2beta1RunDetails(task_details=self.details)


def checked(spec: Any) -> str:
    """A pipeline spec, read by every parser that KFP has for it; as YAML."""
    if not isinstance(spec, dict):
        raise Refused(400, "a run needs a pipeline spec")
    documents = [spec["pipeline_spec"], spec["platform_spec"]] if "pipeline_spec" in spec else [spec]
    text = yaml.safe_dump_all(documents)
    try:
        json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
        for platform in documents[1:]:
            json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
            for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
                json_format.ParseDict(executor, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
        components.load_component_from_text(text)
    except (json_format.ParseError, ValueError, KeyError) as wrong:
        raise Refused(400, f"Failed to parse the pipeline spec: {wrong}") from wrong
    return text


class _Handler(BaseHTTPRequestHandler):
    server: StandInKfp
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests' output is theirs."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            status, answer = 200, self._route(body)
        except Refused as refused:
            status, answer = refused.status, {"code": 3, "message": str(refused)}
        text = json.dumps(self.server.models.sanitize_for_serialization(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _route(self, body: bytes) -> Any:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if self.server.faults:
            raise self.server.faults.pop(0)
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            raise Refused(401, "Request header error: there is no user identity header")
        if "namespace" in query and not self.server.multi_user:
            raise Refused(400, "In single-user mode, requests cannot filter by namespace")
        name, _, rest = parts.path.removeprefix(f"{API}/").partition("/")
        found = getattr(self, f"_{self.command.lower()}_{name}", None)
        if found is None or not parts.path.startswith(API):
            raise Refused(404, "Not Found")
        return found(rest, query, body)

    def _get_healthz(self, *_: Any) -> Any:
        return kfp_server_api.V2beta1GetHealthzResponse(multi_user=self.server.multi_user)

    def _get_experiments(self, rest: str, query: Mapping[str, str], body: bytes) -> Any:
        return kfp_server_api.V2beta1ListExperimentsResponse(
            experiments=_matching(self.server.experiments.values(), query)
        )

    def _post_experiments(self, rest: str, query: Mapping[str, str], body: bytes) -> Any:
        made = self.server.read(body, "V2beta1Experiment")
        if bool(made.namespace) != self.server.multi_user:
            raise Refused(400, "In single-user mode, an experiment has no namespace; of several users it needs one")
        if made.display_name in self.server.experiments:
            raise Refused(409, "Already exist error")
        made.experiment_id = str(uuid.uuid4())
        self.server.experiments[made.display_name] = made
        return made

    def _get_runs(self, rest: str, query: Mapping[str, str], body: bytes) -> Any:
        if not rest:
            runs = [run.model for run in self.server.runs.values() if run.model.experiment_id == query["experiment_id"]]
            return kfp_server_api.V2beta1ListRunsResponse(runs=_matching(runs, query))
        run = self._known(self.server.runs, rest)
        run.look()
        return run.model

    def _post_runs(self, rest: str, query: Mapping[str, str], body: bytes) -> Any:
        if rest:
            self._known(self.server.runs, rest.removesuffix(":terminate")).terminate()
            return {}
        asked = self.server.read(body, "V2beta1Run")
        self.server.before_run(asked)
        return self.server.make(asked).model

    def _get_recurringruns(self, rest: str, query: Mapping[str, str], body: bytes) -> Any:
        # Two to a page, so that pages are asked for.
        every = list(reversed(self.server.recurring.values()))
        start = int(query.get("page_token") or 0)
        more = str(start + 2) if start + 2 < len(every) else ""
        return kfp_server_api.V2beta1ListRecurringRunsResponse(
            recurring_runs=every[start : start + 2], next_page_token=more
        )

    def _post_recurringruns(self, rest: str, query: Mapping[str, str], body: bytes) -> Any:
        made = self.server.read(body, "V2beta1RecurringRun")
        checked(made.pipeline_spec)
        if len(made.trigger.cron_schedule.cron.split()) != 6 or "99" in made.trigger.cron_schedule.cron:
            raise Refused(400, f"Schedule cron is not a valid cron expression: {made.trigger.cron_schedule.cron}")
        made.recurring_run_id = str(uuid.uuid4())
        made.created_at = self.server.stamp(len(self.server.recurring))
        self.server.recurring[made.recurring_run_id] = made
        return made

    def _delete_recurringruns(self, rest: str, query: Mapping[str, str], body: bytes) -> Any:
        self._known(self.server.recurring, rest)
        del self.server.recurring[rest]
        return {}

    def _known(self, kept: Mapping[str, Any], name: str) -> Any:
        if name not in kept:
            raise Refused(404, f"Resource not found: {name}")
        return kept[name]


def _matching(found: Any, query: Mapping[str, str]) -> list[Any]:
    """Those that a filter of equal values lets pass."""
    chosen = list(found)
    predicates = json.loads(query.get("filter") or "{}").get("predicates", [])
    for one in predicates:
        # The server takes the operation by its name or by its number.
        assert one["operation"] in ("EQUALS", 1), one
        wanted = one.get("stringValue", one.get("string_value"))
        chosen = [item for item in chosen if getattr(item, one["key"]) == wanted]
    return chosen
