"""What a step's pod gets in a cluster: its environment, its memory and its end. On one machine none of this counts."""

from kfp import dsl, kubernetes

# One name for the service account, the settings and the secrets of the steps.
NAME = "headrace-steps"
# Settings by their own names, so that whoever runs the platform states them once. A pod does not start without these,
NEEDED = ("HEADRACE_CONTEXT", "HEADRACE_MLFLOW_URI", "HEADRACE_STORE", "HEADRACE_SERVING_IMAGE")
# while these have defaults.
SETTINGS = (
    "HEADRACE_NAMESPACE",
    "HEADRACE_STORE_ENDPOINT",
    "HEADRACE_STORE_REGION",
    "HEADRACE_STORE_SECRET",
    "HEADRACE_ONLINE_STORE_SECRET",
    "HEADRACE_PROXY_URL",
    "HEADRACE_PROXY_SERVICE",
    "HEADRACE_PROMETHEUS_URL",
    "HEADRACE_DATA_REMOTE",
    "HEADRACE_PREDICTION_LOG",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
)
SECRETS = ("HEADRACE_FEAST_REGISTRY", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_HOUR_S = 3600


def in_cluster(task: dsl.PipelineTask, memory: str, most_memory: str, hours: int = 0, retries: int = 0) -> None:
    """Describe the pod of a step.

    Args:
        task: the step.
        memory: what it usually needs, as Kubernetes writes it.
        most_memory: what it may never exceed.
        hours: after which it is ended; 0 for a step that keeps deadlines of its own.
        retries: how often it begins again after its pod was lost or it failed. Every step is idempotent, but an error
            of its own would only be said later, so this is for steps whose loss costs more than that.
    """
    kubernetes.use_config_map_as_env(task, NAME, {key: key for key in NEEDED})
    kubernetes.use_config_map_as_env(task, NAME, {key: key for key in SETTINGS}, optional=True)
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    kubernetes.use_secret_as_env(task, "headrace-store", {key: key for key in keys})
    kubernetes.use_secret_as_env(task, "headrace-online-store", {"url": "HEADRACE_ONLINE_STORE"}, optional=True)
    kubernetes.use_secret_as_env(task, NAME, {key: key for key in SECRETS}, optional=True)
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "headrace")
    kubernetes.add_pod_label(task, "app.kubernetes.io/component", "step")
    task.set_cpu_request("250m")
    task.set_memory_request(memory)
    task.set_memory_limit(most_memory)
    if hours:
        kubernetes.set_timeout(task, hours * _HOUR_S)
    if retries:
        task.set_retry(retries, backoff_duration="30s")
