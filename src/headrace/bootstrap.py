"""Settings to ports: the only place that knows which adapter serves which port."""

import importlib
import platform as python_platform
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from headrace import running
from headrace import settings as environment
from headrace.domain.request import TrainingRequest
from headrace.ports import PipelineRunner, Platform
from headrace.settings import Settings


def platform(settings: Settings) -> Platform:
    """The ports of the settings' family. Adapters import their libraries when they are first used."""
    from headrace.adapters.dvc_store import DvcStore
    from headrace.adapters.feast_store import FeastStore
    from headrace.adapters.labelled_log import LabelledLog
    from headrace.adapters.mlflow_registry import MlflowRegistry
    from headrace.adapters.source_tree import code_version

    return Platform(
        root=settings.root,
        home=settings.home,
        environment=f"python {python_platform.python_version()} on {python_platform.platform(terse=True)}",
        code_version=partial(code_version, settings.root),
        data=DvcStore(settings),
        features=FeastStore(settings),
        registry=MlflowRegistry(settings.tracking_uri),
        outcomes=LabelledLog(settings.prediction_log or str(settings.home / "predictions")),
        **(_cluster(settings) if settings.context == "cluster" else _local(settings)),
    )


def _local(settings: Settings) -> dict[str, Any]:
    """What serves on this machine."""
    from headrace.adapters.http_prober import HttpProber
    from headrace.adapters.local.journal import FolderJournal
    from headrace.adapters.local.process_deployer import ProcessDeployer
    from headrace.adapters.local.processes import Processes
    from headrace.adapters.local.scraped_metrics import ScrapedMetrics
    from headrace.adapters.local.traefik_router import TraefikRouter

    processes = Processes(settings.home)
    deployer = ProcessDeployer(settings, processes)

    def urls(model: str) -> Mapping[int, str]:
        return {endpoint.version: endpoint.url for endpoint in deployer.running(model)}

    return {
        "deployer": deployer,
        "router": TraefikRouter(settings, processes, urls),
        "metrics": ScrapedMetrics(deployer),
        "prober": HttpProber(),
        "journal": FolderJournal(settings.home / "rollouts"),
    }


def _cluster(settings: Settings) -> dict[str, Any]:
    """What serves in a cluster."""
    from headrace.adapters.cluster.helm_deployer import HelmDeployer
    from headrace.adapters.cluster.kubernetes_api import Kubernetes
    from headrace.adapters.cluster.object_store import ObjectStore
    from headrace.adapters.cluster.prometheus_metrics import PrometheusMetrics
    from headrace.adapters.cluster.reach import Reach
    from headrace.adapters.cluster.traefik_router import CustomResourceRouter
    from headrace.adapters.http_prober import HttpProber

    kubernetes = Kubernetes()
    reach = Reach(kubernetes, settings.namespace)
    store = ObjectStore(settings.required("store"), settings.store_reached_at)
    deployer = HelmDeployer(settings, kubernetes, store)
    return {
        "deployer": deployer,
        "router": CustomResourceRouter(settings, kubernetes, reach, deployer.running),
        "metrics": PrometheusMetrics(settings.prometheus_url, settings.namespace, reach),
        "prober": HttpProber(reach.ask),
        "journal": store,
    }


def runner(settings: Settings) -> PipelineRunner:
    """What runs pipelines."""
    if settings.context == "cluster":
        from headrace.adapters.cluster.kfp_runner import KfpRunner
        from headrace.adapters.mlflow_registry import MlflowRegistry

        return KfpRunner(settings, MlflowRegistry(settings.tracking_uri).records)
    from headrace.adapters.local.kfp_runner import LocalKfpRunner

    return LocalKfpRunner(settings)


def run_step(name: str, **arguments: Any) -> int:
    """Run a step in this process, as a pipeline component does.

    Args:
        name: prepare, train, evaluate, register or deploy.
        **arguments: of the step's function; folders (`..._in`, `..._out`, `out`) as text. `prepare` takes model,
            overrides and reason in place of a request.

    Returns:
        What the step returned, as an int; 0 when that is nothing.
    """
    with running.step(name):
        given: dict[str, Any] = {
            key: Path(value) if key.endswith(("_in", "out")) else value for key, value in arguments.items()
        }
        if name == "prepare":
            asked = (given.pop("model"), tuple(given.pop("overrides")), given.pop("reason"))
            given["request"] = TrainingRequest(*asked)
        step = getattr(importlib.import_module(f"headrace.steps.{name}"), name)
        settings = environment.read()
        if settings.context == "local":
            return int(step(platform(settings), **given) or 0)
        from headrace.adapters.cluster import workspace
        from headrace.steps import last_words

        ports = platform(workspace.own(settings))
        with last_words.left_with(ports.registry, name, given):
            return int(step(ports, **given) or 0)
