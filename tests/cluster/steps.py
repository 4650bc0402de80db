"""What KFP's drivers do with a compiled pipeline: the tasks in order, each with the executor input that it is run with.

KFP's control plane is not needed to run the steps as it would: what its launcher runs in a pod is the executor's image
and command as compiled, with `{{$}}` replaced by this input.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

# The only kind of condition that our pipelines have: an int of our own code.
_CONDITION = re.compile(r"int\(inputs\.parameter_values\['(?P<name>[^']+)'\]\) == (?P<value>-?\d+)")
_MOUNTS = {"s3://": "/s3/", "minio://": "/minio/", "gs://": "/gcs/"}


@dataclass(frozen=True)
class Task:
    """A step as KFP's launcher is told to run it.

    Attributes:
        command: the executor's command and arguments, with the input in its place.
        input: the executor input.
        resources: of the executor, as compiled.
        platform: what kfp-kubernetes compiled for the executor.
        retries: how often it may begin again.
    """

    name: str
    image: str
    command: tuple[str, ...]
    input: Mapping[str, Any]
    resources: Mapping[str, Any]
    platform: Mapping[str, Any]
    retries: int

    @property
    def output_file(self) -> str:
        """Where the executor writes its output parameters, as a path in its pod."""
        return str(self.input["outputs"]["outputFile"])


@dataclass
class _Scope:
    """What the tasks of one DAG can take: its own inputs, and what its tasks have given."""

    parameters: dict[str, Any]
    artifacts: dict[str, Any]
    outputs: dict[tuple[str, str], Any]


class PipelineRun:
    """One run of a compiled pipeline.

    Args:
        text: the compiled YAML, both documents.
        arguments: of the pipeline; the others have their defaults.
        root: the pipeline root: ``s3://bucket/prefix``, or a folder.
        run_id: KFP's id of the run.
    """

    def __init__(self, text: str, arguments: Mapping[str, Any], root: str, run_id: str) -> None:
        documents = list(yaml.safe_load_all(text))
        self._spec = documents[0]
        platforms = documents[1]["platforms"] if len(documents) > 1 else {}
        self._platform = platforms.get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
        self._root = f"{root.rstrip('/')}/{self._spec['pipelineInfo']['name']}/{run_id}"
        self._run_id = run_id
        declared = self._spec["root"].get("inputDefinitions", {}).get("parameters", {})
        unknown = sorted(set(arguments) - set(declared))
        missing = sorted(
            name for name, one in declared.items() if name not in arguments and not one.get("isOptional", False)
        )
        if unknown or missing:
            raise ValueError(f"unknown parameters {unknown}, missing parameters {missing}")
        defaults = {name: one["defaultValue"] for name, one in declared.items() if "defaultValue" in one}
        self._top = _Scope({**defaults, **arguments}, {}, {})
        self._results: dict[str, Mapping[str, Any]] = {}

    def tasks(self) -> Iterator[Task]:
        """The tasks in order; `finished` has to be told of each before the next is asked for."""
        yield from self._dag(self._spec["root"]["dag"], self._top)

    def finished(self, task: Task, output: Mapping[str, Any]) -> None:
        """Take what the task's executor wrote to its output file."""
        self._results[task.name] = output

    def _dag(self, dag: Mapping[str, Any], scope: _Scope) -> Iterator[Task]:
        order = TopologicalSorter({name: task.get("dependentTasks", ()) for name, task in dag["tasks"].items()})
        for name in order.static_order():
            task = dag["tasks"][name]
            component = self._spec["components"][task["componentRef"]["name"]]
            parameters, artifacts = self._inputs(task, scope)
            if not _holds(task, parameters):
                continue
            if "dag" in component:
                yield from self._dag(component["dag"], _Scope(parameters, artifacts, {}))
            else:
                yield from self._container(name, task, component, parameters, artifacts, scope)

    def _inputs(self, task: Mapping[str, Any], scope: _Scope) -> tuple[dict[str, Any], dict[str, Any]]:
        given = task.get("inputs", {})
        parameters: dict[str, Any] = {}
        for name, source in given.get("parameters", {}).items():
            if "componentInputParameter" in source:
                parameters[name] = scope.parameters[source["componentInputParameter"]]
            elif "taskOutputParameter" in source:
                key = source["taskOutputParameter"]
                parameters[name] = scope.outputs[key["producerTask"], key["outputParameterKey"]]
            else:
                parameters[name] = self._constant(source["runtimeValue"]["constant"])
        artifacts: dict[str, Any] = {}
        for name, source in given.get("artifacts", {}).items():
            if "componentInputArtifact" in source:
                artifacts[name] = scope.artifacts[source["componentInputArtifact"]]
            else:
                key = source["taskOutputArtifact"]
                artifacts[name] = scope.outputs[key["producerTask"], key["outputArtifactKey"]]
        return parameters, artifacts

    def _constant(self, value: Any) -> Any:
        return value.replace("{{$.pipeline_job_uuid}}", self._run_id) if isinstance(value, str) else value

    def _container(
        self,
        name: str,
        task: Mapping[str, Any],
        component: Mapping[str, Any],
        parameters: Mapping[str, Any],
        artifacts: Mapping[str, Any],
        scope: _Scope,
    ) -> Iterator[Task]:
        label = component["executorLabel"]
        executor = self._spec["deploymentSpec"]["executors"][label]["container"]
        declared = component.get("outputDefinitions", {})
        made = executor_input(f"{self._root}/{name}", parameters, artifacts, declared)
        text = json.dumps(made)
        command = (*executor.get("command", ()), *executor.get("args", ()))
        retries = int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
        yield Task(
            name,
            executor["image"],
            tuple(part.replace("{{$}}", text) for part in command),
            made,
            executor.get("resources", {}),
            self._platform.get(label, {}),
            retries,
        )
        result = self._results[name]
        for key in declared.get("parameters", {}):
            scope.outputs[name, key] = result["parameterValues"][key]
        for key, listed in made["outputs"]["artifacts"].items():
            # The executor may have added to an artefact's metadata; its type is what was declared.
            said = result.get("artifacts", {}).get(key, {}).get("artifacts", [{}])
            scope.outputs[name, key] = {"artifacts": [{**listed["artifacts"][0], **said[0]}]}


def executor_input(
    root: str, parameters: Mapping[str, Any], artifacts: Mapping[str, Any], declared: Mapping[str, Any]
) -> dict[str, Any]:
    """The executor input as KFP's driver makes it.

    Args:
        root: of the task: its output artefacts are below it.
        parameters: the values of the component's inputs.
        artifacts: name to artifact list, as its producer left it.
        declared: the component's output definitions.
    """
    return {
        "inputs": {"parameterValues": _as_protobuf(dict(parameters)), "artifacts": dict(artifacts)},
        "outputs": {
            "parameters": {name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in declared.get("parameters", {})},  # noqa: S108 - KFP's place
            "artifacts": {
                name: {"artifacts": [{"name": name, "type": one["artifactType"], "uri": f"{root}/{name}"}]}
                for name, one in declared.get("artifacts", {}).items()
            },
            "outputFile": f"{local_path(root)}/output_metadata.json",
        },
    }


def _as_protobuf(value: Any) -> Any:
    """Numbers as protobuf's JSON writes them: all are doubles there, and a whole one has no point."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_as_protobuf(one) for one in value]
        case dict():
            return {name: _as_protobuf(one) for name, one in value.items()}
    return value


def local_path(uri: str) -> str:
    """Where an artefact is in a pod; a folder stands for itself."""
    for scheme, mount in _MOUNTS.items():
        if uri.startswith(scheme):
            return mount + uri.removeprefix(scheme)
    return uri


def run_here(task: Task, cwd: Path, environment: Mapping[str, str], log: Path) -> Mapping[str, Any]:
    """Run a task's very command as a process of this machine; its `python3` is this interpreter.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with log.open("ab") as said:
        subprocess.run(
            task.command, cwd=cwd, env={**os.environ, **environment, "PATH": path}, stdout=said, stderr=said, check=True
        )
    output = Path(task.output_file)
    return json.loads(output.read_text()) if output.is_file() else {}


def _holds(task: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    condition = task.get("triggerPolicy", {}).get("condition")
    if condition is None:
        return True
    found = _CONDITION.fullmatch(condition)
    if found is None:
        raise ValueError(f"a condition that is none of ours: {condition}")
    return int(parameters[found["name"]]) == int(found["value"])
