"""Runs, versions and aliases in MLflow, the only writer of them."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.adapters.mlflow_files import MANIFEST, digests, lay_out, verify
from headrace.adapters.mlflow_reasons import insist, reason
from headrace.adapters.mlflow_requests import leave_feast_out, reach_directly
from headrace.adapters.scratch import remove_abandoned, scratch_for
from headrace.documents import bind, plain, write_json
from headrace.domain.lineage import Lineage, ModelVersion
from headrace.errors import DataError, HeadraceError, Unavailable
from headrace.ports import PIPELINE_RUN, Judged, RunRecord

_RUN_KEY = "headrace.run_key"
_LINEAGE = "headrace.lineage"
_PROMOTE = "headrace.promote"
_SUMMARY = "headrace.summary"
_CHAMPION = "headrace.champion"
_ROLLOUT = "headrace.rollout"
# MLflow adds this file to what it downloads; it says which version was asked for and is no part of the model.
_META = "registered_model_meta"
_MANIFEST_SCHEMA = 1


class MlflowRegistry:
    """The ModelRegistry port on an MLflow 3 server.

    Requests are retried for about a minute, so that a server that is being restarted costs a step nothing but time.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:
            import logging

            import mlflow
            from mlflow import MlflowClient
            from mlflow import environment_variables as variables

            variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(5)
            variables.MLFLOW_HTTP_REQUEST_TIMEOUT.set(30)
            variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
            variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
            for noisy in ("mlflow", "urllib3.connectionpool"):
                logging.getLogger(noisy).setLevel(logging.ERROR)
            leave_feast_out()
            reach_directly(self._uri)
            # Where MLflow is reached, its bucket need not be: files come through it, not by URLs of the bucket's.
            variables.MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD.set(False)
            variables.MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD.set(False)
            mlflow.set_tracking_uri(self._uri)
            mlflow.set_registry_uri(self._uri)
            self._made = MlflowClient(self._uri, self._uri)
        return self._made

    def start_run(self, model: str, run_key: str, tags: Mapping[str, str]) -> str:
        """See the port."""
        with self._translated():
            experiment = self._experiment(model)
            for left_open in self._runs(experiment, run_key, "RUNNING"):
                self._client.set_terminated(left_open.info.run_id, "KILLED")
            run = self._client.create_run(
                experiment, tags={_RUN_KEY: run_key, **tags}, run_name=f"{model}-{run_key[:8]}"
            )
            return str(run.info.run_id)

    def log_run(self, run_id: str, record: RunRecord) -> None:
        """See the port."""
        from mlflow.entities import Metric, Param, RunTag

        with self._translated():
            self._client.log_batch(
                run_id,
                metrics=[Metric(name, value, _now_ms(), 0) for name, value in record.metrics.items()],
                params=[Param(name, value) for name, value in record.parameters.items()],
                tags=[RunTag(name, value) for name, value in record.tags.items()],
            )

    def log_dataset(self, run_id: str, name: str, digest: str, source: str, context: str) -> None:
        """See the port."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name=name, digest=digest, source_type="dvc", source=source)
        with self._translated():
            self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def log_files(self, run_id: str, files: Path, under: str) -> None:
        """See the port."""
        with self._translated():
            if files.is_dir():
                self._client.log_artifacts(run_id, str(files), under)
            else:
                self._client.log_artifact(run_id, str(files), under or None)

    def end_run(self, run_id: str, succeeded: bool) -> None:
        """See the port."""
        with self._translated():
            self._client.set_terminated(run_id, "FINISHED" if succeeded else "FAILED")

    def find(self, model: str, run_key: str) -> ModelVersion | None:
        """See the port."""
        with self._translated():
            found = self._client.search_model_versions(f"name = '{model}' and tag.`{_RUN_KEY}` = '{run_key}'")
            return _version(found[0]) if found else None

    def verdict(self, model: str, run_key: str) -> Judged | None:
        """See the port."""
        with self._translated():
            experiment = self._client.get_experiment_by_name(model)
            runs = self._runs(experiment.experiment_id, run_key, "FINISHED") if experiment else []
            judged = [run for run in runs if _PROMOTE in run.data.tags]
            if not judged:
                return None
            tags = judged[0].data.tags
            champion = tags.get(_CHAMPION, "")
            return Judged(tags[_PROMOTE] == "true", tags[_SUMMARY], int(champion) if champion else None)

    def record_verdict(self, run_id: str, judged: Judged) -> None:
        """See the port."""
        champion = "" if judged.champion is None else str(judged.champion)
        tags = {_PROMOTE: str(judged.promote).lower(), _SUMMARY: judged.summary[:5000], _CHAMPION: champion}
        self.log_run(run_id, RunRecord({}, {}, tags))

    def register(self, lineage: Lineage, directory: Path) -> ModelVersion:
        """See the port. The version is made in one request, with its tags, after all of its files are stored."""
        from mlflow.entities import LoggedModelStatus

        known = self.find(lineage.model, lineage.run_key)
        if known:
            return known
        with tempfile.TemporaryDirectory() as scratch, self._translated():
            whole = Path(scratch) / "model"
            lay_out(directory, whole)
            complete = replace(lineage, files=digests(whole))
            logged = self._client.create_logged_model(
                self._experiment(lineage.model), name=lineage.model, source_run_id=lineage.experiment_run
            )
            self._client.log_model_artifacts(logged.model_id, str(whole))
            self._client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
            self._ensure_registered_model(lineage.model)
            made = self._client.create_model_version(
                lineage.model,
                source=f"models:/{logged.model_id}",
                run_id=lineage.experiment_run,
                model_id=logged.model_id,
                tags={_RUN_KEY: lineage.run_key, _LINEAGE: json.dumps(plain(complete), sort_keys=True)},
            )
            return ModelVersion(lineage.model, int(made.version), complete)

    def version(self, model: str, version: int) -> ModelVersion:
        """See the port."""
        with self._translated(missing=f"{model} has no version {version}; headrace models lists them"):
            return _version(self._client.get_model_version(model, str(version)))

    def versions(self, model: str) -> Sequence[ModelVersion]:
        """See the port."""
        with self._translated():
            found = self._client.search_model_versions(f"name = '{model}'", max_results=1000)
            return sorted((_version(v) for v in found if _LINEAGE in v.tags), key=lambda v: -v.version)

    def alias(self, model: str, alias: str) -> int | None:
        """See the port."""
        from mlflow.exceptions import MlflowException

        with self._translated():
            try:
                return int(self._client.get_model_version_by_alias(model, alias).version)
            except MlflowException as refused:
                # An alias that is not there is INVALID_PARAMETER_VALUE, a model that is not RESOURCE_DOES_NOT_EXIST.
                if refused.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """See the port."""
        with self._translated():
            insist(lambda: self._client.set_registered_model_alias(model, alias, str(version)))

    def clear_alias(self, model: str, alias: str) -> None:
        """See the port."""
        with self._translated():
            self._client.delete_registered_model_alias(model, alias)

    def record_rollout(self, model: str, version: int, outcome: str) -> None:
        """See the port."""
        with self._translated():
            insist(lambda: self._client.set_model_version_tag(model, str(version), _ROLLOUT, outcome[:5000]))

    def rollout(self, model: str, version: int) -> str | None:
        """See the port."""
        with self._translated():
            found = self._client.get_model_version(model, str(version)).tags.get(_ROLLOUT)
            return None if found is None else str(found)

    def download(self, version: ModelVersion, to: Path) -> Path:
        """See the port."""
        if to.is_dir():
            remove_abandoned(to)
            verify(version, to)
            return to
        with scratch_for(to) as scratch:
            with self._translated(undone=f"{version.model} v{version.version} can't be fetched"):
                got = Path(self._artifacts(f"models:/{version.model}/{version.version}", dst_path=str(scratch)))
            (got / _META).unlink(missing_ok=True)
            verify(version, got, is_fetched=True)
            manifest = {"schema_version": _MANIFEST_SCHEMA, "model": version.model, "version": version.version}
            write_json(got / MANIFEST, {**manifest, "files": dict(version.lineage.files)})
            got.chmod(0o755)
            got.rename(to)
        return to

    def records(self, model: str, pipeline_run: str, to: Path) -> None:
        """Fetch the files of every run that belongs to a run of the pipeline; of equal names the newest."""
        to.mkdir(parents=True, exist_ok=True)
        with self._translated(undone=f"the records of pipeline run {pipeline_run} can't be fetched"):
            experiment = self._client.get_experiment_by_name(model)
            if experiment is None:
                return
            wanted = f"tags.`{PIPELINE_RUN}` = '{pipeline_run}'"
            order = ["attributes.start_time ASC"]
            for run in self._client.search_runs([experiment.experiment_id], wanted, order_by=order):
                self._client.download_artifacts(run.info.run_id, "", str(to))

    def _artifacts(self, uri: str, dst_path: str) -> str:
        from mlflow.artifacts import download_artifacts

        # MLflow resolves `models:/` through its globals, which making the client sets.
        return str(download_artifacts(uri, dst_path=dst_path)) if self._client else ""

    def _experiment(self, model: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(model)
        if found:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(model))
        except MlflowException as refused:
            if refused.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(self._client.get_experiment_by_name(model).experiment_id)

    def _ensure_registered_model(self, model: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(model)
        except MlflowException as refused:
            if refused.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _runs(self, experiment: str, run_key: str, status: str) -> list[Any]:
        wanted = f"tags.`{_RUN_KEY}` = '{run_key}' and attributes.status = '{status}'"
        return list(self._client.search_runs([experiment], wanted, order_by=["attributes.start_time DESC"]))

    @contextmanager
    def _translated(self, missing: str = "", undone: str = "") -> Iterator[None]:
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException

        try:
            yield
        except (RequestException, MlflowException) as failed:
            if getattr(failed, "error_code", "") == "RESOURCE_DOES_NOT_EXIST" and missing:
                raise DataError(missing) from failed
            if getattr(failed, "error_code", "INTERNAL_ERROR") != "INTERNAL_ERROR":
                raise HeadraceError(f"MLflow refuses: {failed}") from failed
            if undone:
                raise Unavailable(f"{undone} from MLflow at {self._uri}: {reason(failed)}; run again later") from failed
            why = f"MLflow at {self._uri} does not answer ({reason(failed)}): `headrace up` starts it"
            raise Unavailable(why) from failed


def _now_ms() -> int:
    from mlflow.utils.time import get_current_time_millis

    return int(get_current_time_millis())


def _version(found: Any) -> ModelVersion:
    if _LINEAGE not in found.tags:
        raise DataError(f"version {found.version} of {found.name} was not registered by Headrace: it has no lineage")
    lineage = bind(Lineage, json.loads(found.tags[_LINEAGE]), f"lineage of {found.name} v{found.version}", DataError)
    return ModelVersion(found.name, int(found.version), lineage)
