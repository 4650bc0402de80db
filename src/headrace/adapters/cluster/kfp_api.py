"""Kubeflow Pipelines through its own client: experiments, runs and recurring runs, with errors that say what to do."""

import contextlib
import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.adapters.cluster.kfp_package import Package
from headrace.errors import HeadraceError, Unavailable, UsageError
from headrace.settings import Settings, variable

# What runs the pods of a pipeline; it may do what the steps need.
SERVICE_ACCOUNT = "headrace-steps"
ENDED = frozenset(("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"))
_TIMEOUT_S = 30.0
_PAGE = 100


class KfpApi:
    """One experiment a model, as in MLflow.

    Raises:
        Unavailable: nothing answers at the address, or not well.
        UsageError: it does not let us in, or is not the API that we speak.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.kfp_url.rstrip("/")
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        with self._translated(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            import kfp_server_api
            from kfp.client import Client

            credentials = _pod_credentials()
            configuration = kfp_server_api.Configuration(host=self._url)
            if credentials:
                configuration.api_key = {"authorization": "set by the hook"}
                configuration.api_key_prefix = {"authorization": "Bearer"}
                configuration.refresh_api_key_hook = credentials.refresh_api_key_hook
            with kfp_server_api.ApiClient(configuration) as asking:
                health = kfp_server_api.HealthzServiceApi(asking).healthz_service_get_healthz(
                    _request_timeout=_TIMEOUT_S
                )
            # Only a KFP of several users has namespaces; another refuses requests that name one.
            self._namespace = settings.namespace if health.multi_user else None
            self._client: Any = Client(self._url, namespace=self._namespace or "kubeflow", credentials=credentials)

    def create_run(self, model: str, name: str, package: Package, parameters: Mapping[str, Any]) -> Any:
        """Start a run; returns it as KFP has it."""
        with self._translated(), _file(package) as file:
            return self._client.run_pipeline(
                self._experiment(model), name, str(file), dict(parameters), service_account=SERVICE_ACCOUNT
            )

    def runs(self, model: str, name: str) -> Sequence[Any]:
        """The runs of that name which have not ended, oldest first."""
        same_name = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
        with self._translated():
            found = self._client.runs.run_service_list_runs(
                experiment_id=self._experiment(model),
                filter=json.dumps(same_name),
                sort_by="created_at desc",
                page_size=_PAGE,
                _request_timeout=_TIMEOUT_S,
            )
        active = [run for run in found.runs or () if run.state not in ENDED | {"CANCELING"}]
        return sorted(active, key=lambda run: (run.created_at, run.run_id))

    def run(self, run_id: str) -> Any:
        """A run with the states of its tasks."""
        with self._translated():
            return self._client.runs.run_service_get_run(run_id, _request_timeout=_TIMEOUT_S)

    def terminate(self, run_id: str) -> None:
        """End a run."""
        with self._translated():
            self._client.terminate_run(run_id)

    def create_recurring(
        self, model: str, name: str, description: str, package: Package, parameters: Mapping[str, Any], cron: str
    ) -> None:
        """Run by the clock: one run at a time, and none is made up for."""
        with self._translated(), _file(package) as file:
            self._client.create_recurring_run(
                self._experiment(model),
                name,
                description=description,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=dict(parameters),
                pipeline_package_path=str(file),
                service_account=SERVICE_ACCOUNT,
            )

    def recurring(self) -> Sequence[Any]:
        """All recurring runs, newest first."""
        found: list[Any] = []
        token = ""
        while True:
            with self._translated():
                page = self._client.recurring_runs.recurring_run_service_list_recurring_runs(
                    page_token=token,
                    page_size=_PAGE,
                    sort_by="created_at desc",
                    _request_timeout=_TIMEOUT_S,
                    **({"namespace": self._namespace} if self._namespace else {}),
                )
            found += page.recurring_runs or ()
            token = page.next_page_token or ""
            if not token:
                return found

    def delete_recurring(self, recurring_run_id: str) -> None:
        """Forget a recurring run."""
        with self._translated():
            self._client.delete_recurring_run(recurring_run_id)

    def link(self, run_id: str) -> str:
        """Where KFP shows a run."""
        return f"{self._url}/#/runs/details/{run_id}"

    def _experiment(self, model: str) -> str:
        import kfp_server_api

        # kfp's client says on stdout where things are; stdout is data.
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                return str(self._client.create_experiment(model, namespace=self._namespace).experiment_id)
            except kfp_server_api.ApiException as refused:
                if refused.status != 409:
                    raise
                return str(self._client.get_experiment(experiment_name=model, namespace=self._namespace).experiment_id)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """No exception of kfp's client passes, and nothing of what it prints."""
        try:
            import kfp_server_api
            import urllib3
            from kfp.client import Client  # noqa: F401 - what is missing is said here
        except ImportError as missing:
            raise UsageError(f"{missing}: install headrace with its extra `cluster`") from missing
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        except kfp_server_api.ApiException as refused:
            raise self._refused(refused.status, _said(refused)) from refused
        except (urllib3.exceptions.HTTPError, OSError) as failed:
            why = str(getattr(failed, "reason", failed)).rpartition(">: ")[2] or type(failed).__name__
            raise Unavailable(
                f"Kubeflow Pipelines does not answer at {self._url} ({why}): see that its API server runs and that "
                f"{variable('kfp_url')} is its address"
            ) from failed

    def _refused(self, status: int, said: str) -> HeadraceError:
        where = f"Kubeflow Pipelines at {self._url}"
        if status in (401, 403):
            return UsageError(
                f"{where} does not let us in ({status}: {said}): from a pod, project a service account token of the "
                "audience pipelines.kubeflow.org into it and give the account the right to create runs; from a desk, "
                f"forward a port to the service ml-pipeline and name it in {variable('kfp_url')}"
            )
        if status == 404 and "resource not found" not in said.lower():
            return UsageError(
                f"{self._url} has no v2beta1 API of Kubeflow Pipelines ({status}: {said}): it is older than 2.0, or "
                f"{variable('kfp_url')} names something else"
            )
        if status >= 500 or status == 429:
            return Unavailable(f"{where} fails ({status}: {said}): see the log of its API server, and try again later")
        return UsageError(f"{where} refuses this ({status}: {said})")


def _said(refused: Any) -> str:
    """The server's own words: of a JSON answer its message, of a page nothing."""
    try:
        found = json.loads(refused.body)
        message = str(found.get("message") or found.get("error") or "")
    except (TypeError, ValueError, AttributeError):
        message = ""
    return (message or str(refused.reason or "no reason given")).strip()[:500]


def _pod_credentials() -> Any:
    """The token that is projected into this pod, where KFP's client looks for it; None where there is none."""
    from kfp import client

    token = os.environ.get(client.KF_PIPELINES_SA_TOKEN_ENV) or client.KF_PIPELINES_SA_TOKEN_PATH
    return client.ServiceAccountTokenVolumeCredentials(token) if Path(token).is_file() else None


@contextlib.contextmanager
def _file(package: Package) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        file.write_text(package.text())
        yield file
