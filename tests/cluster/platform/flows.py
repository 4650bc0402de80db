"""Every listener of the pods, and every connection that is wanted: what is not listed here must not be possible.

The node's network plugin enforces no policy. `python -m tests.cluster.platform probe` tries every connection from the
pods themselves, for a cluster whose plugin does.
"""

from dataclasses import dataclass

DATA, HEADRACE, TRAEFIK, MONITORING, SYSTEM = "headrace-data", "headrace", "traefik", "monitoring", "kube-system"
# What a pod is known by: its namespace, and the label app.kubernetes.io/name or, for steps, component.
POSTGRES, REDIS, SEAWEEDFS = f"{DATA}/postgres", f"{DATA}/redis", f"{DATA}/seaweedfs"
MLFLOW, STEP, SERVICE = f"{HEADRACE}/mlflow", f"{HEADRACE}/step", f"{HEADRACE}/model-service"
PROXY, PROMETHEUS, DNS = f"{TRAEFIK}/traefik", f"{MONITORING}/prometheus", f"{SYSTEM}/kube-dns"
API, CLIENTS = "the Kubernetes API", "clients"


@dataclass(frozen=True)
class Listener:
    """A port that a pod listens on beyond its loopback.

    Attributes:
        asks: how who connects is known; empty where the NetworkPolicy alone decides.
    """

    pod: str
    port: int
    asks: str = ""
    protocol: str = "TCP"


LISTENERS = [
    Listener(POSTGRES, 5432, "password (SCRAM), a user a database"),
    Listener(REDIS, 6379, "password, a user a role"),
    Listener(SEAWEEDFS, 8333, "signature (AWS version 4)"),
    Listener(SEAWEEDFS, 18333),  # gRPC of its S3 part, which can't be bound apart
    Listener(MLFLOW, 5000),
    Listener(PROXY, 8000),  # what clients are for
    Listener(PROXY, 8081),
    Listener(PROMETHEUS, 9090),
    Listener(SERVICE, 8080),
]
LOOPBACK = {
    SEAWEEDFS: {8080, 8888, 9333, 18080, 18888, 19333},  # master, volumes and filer, HTTP and gRPC
    PROXY: {8082},  # its API, for who may forward to it
}


@dataclass(frozen=True)
class Flow:
    """A connection that is wanted, and the policies, ``namespace/name``, that let it through."""

    source: str
    target: str
    port: int
    why: str
    by: frozenset[str]
    protocol: str = "TCP"


def _flow(source: str, target: str, port: int, why: str, *by: str, protocol: str = "TCP") -> Flow:
    return Flow(source, target, port, why, frozenset(by), protocol)


_CHART = f"{HEADRACE}/flight-delay-v1"
FLOWS = [
    _flow(CLIENTS, PROXY, 8000, "predictions", "traefik/traefik"),
    _flow(PROXY, SERVICE, 8080, "predictions", "traefik/traefik", _CHART),
    _flow(PROXY, API, 6443, "routes", "traefik/kubernetes-api"),
    _flow(PROMETHEUS, SERVICE, 8080, "metrics", "monitoring/prometheus", _CHART),
    _flow(PROMETHEUS, PROXY, 8081, "metrics", "monitoring/prometheus", "traefik/traefik"),
    _flow(PROMETHEUS, API, 6443, "targets", "monitoring/kubernetes-api"),
    _flow(SERVICE, SEAWEEDFS, 8333, "model directory, predictions", _CHART, "headrace-data/seaweedfs"),
    _flow(SERVICE, REDIS, 6379, "features by key", _CHART, "headrace-data/redis"),
    _flow(SERVICE, DNS, 53, "names", _CHART),
    _flow(SERVICE, DNS, 53, "names", _CHART, protocol="UDP"),
    _flow(MLFLOW, POSTGRES, 5432, "registry", "headrace/mlflow", "headrace-data/postgres"),
    _flow(MLFLOW, SEAWEEDFS, 8333, "artefacts", "headrace/mlflow", "headrace-data/seaweedfs"),
    _flow(MLFLOW, DNS, 53, "names", "headrace/mlflow"),
    _flow(MLFLOW, DNS, 53, "names", "headrace/mlflow", protocol="UDP"),
    _flow(STEP, MLFLOW, 5000, "runs, versions", "headrace/steps", "headrace/mlflow"),
    _flow(STEP, POSTGRES, 5432, "Feast's registry", "headrace/steps", "headrace-data/postgres"),
    _flow(STEP, SEAWEEDFS, 8333, "data, model directories, looks", "headrace/steps", "headrace-data/seaweedfs"),
    _flow(STEP, REDIS, 6379, "features by key", "headrace/steps", "headrace-data/redis"),
    _flow(STEP, PROXY, 8000, "predictions of a rollout's own", "headrace/steps", "traefik/traefik"),
    _flow(STEP, PROMETHEUS, 9090, "evidence", "headrace/steps", "monitoring/prometheus"),
    _flow(STEP, API, 6443, "releases, routes", "headrace/kubernetes-api"),
    _flow(STEP, DNS, 53, "names", "headrace/steps"),
    _flow(STEP, DNS, 53, "names", "headrace/steps", protocol="UDP"),
]
