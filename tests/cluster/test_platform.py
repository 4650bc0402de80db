"""What stands around the model services: who may do what in it, what it lets out, and what it weighs."""

import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
import redis
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSelector, S3FileSystem

from tests.cluster.platform import credentials, deployment
from tests.cluster.platform.access import Forward
from tests.cluster.platform.fixtures import Platform
from tests.cluster.platform.kubectl import Kubectl, KubectlError

_GIB = 2**30
# Two model versions and a step's pod have to fit beside it.
_MOST_BYTES = 2 * _GIB


def _pods(platform: Platform) -> Iterator[dict[str, Any]]:
    for namespace in deployment.NAMESPACES:
        listed = platform.kubectl("get", "pods", f"-n={namespace}", "-l=app.kubernetes.io/part-of=headrace", "-o=json")
        names = {one["metadata"]["name"] for one in deployment.documents() if one["kind"] == "Deployment"}
        yield from (
            pod
            for pod in json.loads(listed)["items"]
            if pod["metadata"]["labels"].get("app.kubernetes.io/name") in names
        )


@pytest.mark.parametrize("namespace", deployment.NAMESPACES)
def test_pod_that_is_not_restricted_is_refused(platform: Platform, namespace: str) -> None:
    container = {"name": "root", "image": "localhost/headrace/base:test"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": {"containers": [container]}}
    with pytest.raises(KubectlError, match='violates PodSecurity "restricted'):
        platform.kubectl("create", f"-n={namespace}", "--dry-run=server", "-f=-", stdin=json.dumps(pod))


def test_every_container_has_a_read_only_root_limits_and_a_numbered_user(platform: Platform) -> None:
    seen = 0
    for pod in _pods(platform):
        assert pod["spec"]["securityContext"]["runAsUser"] > 0
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert "memory" in container["resources"]["limits"]
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            seen += 1
    assert seen >= len(deployment.IMAGES)


def test_only_the_proxy_and_discovery_have_a_token(platform: Platform) -> None:
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    holders = {
        container["name"]
        for pod in _pods(platform)
        for container in pod["spec"]["containers"]
        if any(mount["mountPath"] == place for mount in container.get("volumeMounts", []))
    }
    assert holders == {"traefik", "discovery"}


def _bucket(platform: Platform, user: str, password: str) -> S3FileSystem:
    return S3FileSystem(
        access_key=user,
        secret_key=password,
        region=credentials.REGION,
        endpoint_override=platform.url("seaweedfs"),
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
    )


def _write(files: S3FileSystem, path: str) -> None:
    with files.open_output_stream(path) as stream:
        stream.write(b"something")


def test_services_read_models_and_write_predictions_and_nothing_else(platform: Platform) -> None:
    steps = _bucket(platform, "steps", platform.passwords.s3_steps)
    services = _bucket(platform, "services", platform.passwords.s3_services)
    name = uuid.uuid4().hex
    model, artefact = f"headrace/serving/models/{name}/model.onnx", f"headrace/mlflow/{name}"
    prediction = f"headrace/serving/predictions/{name}.parquet"
    try:
        _write(steps, model)
        _write(steps, artefact)
        assert services.open_input_stream(model).read() == b"something"
        assert [one.path for one in services.get_file_info(FileSelector(model.rpartition("/")[0]))] == [model]
        _write(services, prediction)
        for forbidden in (
            lambda: _write(services, f"{model}.more"),
            lambda: services.delete_file(model),
            lambda: services.open_input_stream(artefact).read(),
            lambda: services.open_input_stream(prediction).read(),
            lambda: services.get_file_info(FileSelector("headrace")),
            lambda: _bucket(platform, "services", "wrong").open_input_stream(model).read(),
        ):
            with pytest.raises(OSError, match=r"ACCESS_DENIED|SIGNATURE_DOES_NOT_MATCH"):
                forbidden()
    finally:
        for path in (model, artefact, prediction):
            steps.delete_file(path)


def test_services_read_the_online_store_that_steps_write(platform: Platform) -> None:
    place = platform.ways["redis"].place
    steps = redis.Redis.from_url(credentials.online_store("steps", platform.passwords.redis_steps, place).split("?")[0])
    services = redis.Redis.from_url(
        credentials.online_store("services", platform.passwords.redis_services, place).split("?")[0]
    )
    key = uuid.uuid4().hex
    steps.hset(key, "feature", "1")
    try:
        assert services.hget(key, "feature") == b"1"
        for forbidden in (lambda: services.delete(key), lambda: services.config_get("*"), steps.flushall):
            with pytest.raises(redis.exceptions.NoPermissionError):
                forbidden()
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis.from_url(f"redis://{place}").get(key)
    finally:
        steps.delete(key)


def test_each_database_has_one_user_and_the_superuser_is_not_let_in(platform: Platform) -> None:
    made, place = platform.passwords, platform.ways["postgres"].place
    with psycopg.connect(f"postgresql://feast:{made.postgres_feast}@{place}/feast") as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
    for user, password, database in (
        ("feast", made.postgres_feast, "mlflow"),
        ("feast", "wrong", "feast"),
        ("postgres", made.postgres_feast, "postgres"),
    ):
        with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry|password authentication failed"):
            psycopg.connect(f"postgresql://{user}:{password}@{place}/{database}")


def test_registry_keeps_artefacts_in_the_bucket_for_clients_without_access_to_it(platform: Platform) -> None:
    import mlflow

    client = mlflow.MlflowClient(platform.url("mlflow"))
    experiment = client.create_experiment(uuid.uuid4().hex)
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "kept", "note.txt")
    kept = f"headrace/mlflow/{run.info.artifact_uri.removeprefix('mlflow-artifacts:/')}/note.txt"
    steps = _bucket(platform, "steps", platform.passwords.s3_steps)
    assert steps.open_input_stream(kept).read() == b"kept"
    steps.delete_file(kept)
    client.delete_experiment(experiment)


def test_registry_answers_neither_other_names_nor_other_pages(platform: Platform) -> None:
    url = f"{platform.url('mlflow')}/api/2.0/mlflow/experiments/create"
    body = {"name": uuid.uuid4().hex}
    assert httpx.post(url, json=body, headers={"Host": "evil.example"}).status_code == 403
    assert httpx.post(url, json=body, headers={"Origin": "https://evil.example"}).status_code == 403


def test_proxys_api_is_on_its_pods_loopback_alone(platform: Platform) -> None:
    assert httpx.get(f"{platform.url('traefik')}/api/rawdata").status_code == 404
    (pod,) = (one for one in _pods(platform) if one["metadata"]["namespace"] == "traefik")
    with Forward(platform.kubectl, "traefik", pod["metadata"]["name"], 8082, kind="pod") as way:
        way.wait()
        held = httpx.get(f"http://{way.place}/api/rawdata").json()
        assert httpx.get(f"http://{way.place}/dashboard/").status_code == 404
    assert any(name.startswith("traefik-headrace-api-") for name in held["routers"])


@pytest.mark.parametrize(
    "request_text",
    [
        "GET / HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: 192.0.2.1\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nLong: {'a' * 40_000}\r\n\r\n",
    ],
    ids=["alias of a header", "long header"],
)
def test_proxy_refuses_what_the_laptops_refuses(platform: Platform, request_text: str) -> None:
    with socket.create_connection(("127.0.0.1", platform.ways["traefik"].port), timeout=10) as connection:
        connection.sendall(request_text.encode())
        status = int(connection.recv(64).split()[1])
    assert status in (400, 431)


def test_prometheus_scrapes_what_a_pod_monitor_selects(platform: Platform) -> None:
    query = 'up{job="traefik/traefik",namespace="traefik",endpoint="health"}'
    answer = httpx.get(f"{platform.url('prometheus')}/api/v1/query", params={"query": query}).json()
    (sample,) = answer["data"]["result"]
    assert sample["value"][1] == "1"
    assert sample["metric"]["pod"].startswith("traefik-")


_STEPS = "--as=system:serviceaccount:headrace:headrace-steps"
_ONCALL = ("--as=somebody", "--as-group=headrace-oncall")


@pytest.mark.parametrize(
    "asked",
    [
        *((_STEPS, "create", kind, "-n=headrace") for kind in ("deployments", "networkpolicies", "secrets")),
        *((_STEPS, "create", kind, "-n=headrace") for kind in ("podmonitors", "poddisruptionbudgets", "services")),
        *((_STEPS, "create", kind, "-n=headrace") for kind in ("horizontalpodautoscalers", "serviceaccounts")),
        (_STEPS, "update", "traefikservices.traefik.io", "-n=headrace"),
        (_STEPS, "get", "pods", "--subresource=log", "-n=headrace"),
        (_STEPS, "create", "pods", "--subresource=portforward", "-n=traefik"),
        (*_ONCALL, "update", "traefikservices.traefik.io", "-n=headrace"),
        (*_ONCALL, "get", "pods", "--subresource=portforward", "-n=monitoring"),
    ],
    ids=" ".join,
)
def test_right_is_given(platform: Platform, asked: tuple[str, ...]) -> None:
    assert platform.kubectl("auth", "can-i", *asked).strip() == "yes"


@pytest.mark.parametrize(
    "asked",
    [
        (_STEPS, "get", "secrets", "-n=headrace-data"),
        (_STEPS, "get", "pods", "-n=headrace-data"),
        (_STEPS, "create", "pods", "--subresource=exec", "-n=headrace"),
        (_STEPS, "create", "pods", "-n=headrace"),
        (_STEPS, "create", "rolebindings", "-n=headrace"),
        (_STEPS, "list", "namespaces"),
        (_STEPS, "delete", "pods", "-n=traefik"),
        (*_ONCALL, "get", "secrets", "-n=headrace"),
        (*_ONCALL, "delete", "deployments", "-n=headrace"),
        ("--as=system:serviceaccount:traefik:traefik", "get", "secrets", "-n=headrace-data"),
        ("--as=system:serviceaccount:traefik:traefik", "update", "traefikservices.traefik.io", "-n=headrace"),
        ("--as=system:serviceaccount:monitoring:prometheus", "list", "secrets", "-n=headrace"),
    ],
    ids=" ".join,
)
def test_right_is_not_given(platform: Platform, asked: tuple[str, ...]) -> None:
    with pytest.raises(KubectlError):
        platform.kubectl("auth", "can-i", *asked)


def test_passwords_are_in_secrets_alone(platform: Platform) -> None:
    said = []
    for namespace in deployment.NAMESPACES:
        for kind in ("pods", "deployments", "configmaps", "events"):
            said.append(platform.kubectl("get", kind, f"-n={namespace}", "-o=json"))
    for pod in _pods(platform):
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        said.append(platform.kubectl("logs", name, f"-n={namespace}", "--all-containers", "--tail=-1"))
    everything = "\n".join(said)
    assert "Listening" in everything or "Ready" in everything
    assert [name for name, password in platform.passwords.all().items() if password in everything] == []


def test_all_of_it_leaves_room_for_models(platform: Platform) -> None:
    weights = deployment.memory(platform.kubectl)
    assert set(weights) >= {"headrace/mlflow", "headrace-data/postgres", "monitoring/prometheus"}
    assert sum(weights.values()) < _MOST_BYTES, weights


def test_up_again_changes_nothing(platform: Platform) -> None:
    before = {pod["metadata"]["uid"] for pod in _pods(platform)}
    assert deployment.up(platform.kubectl) == platform.passwords
    assert {pod["metadata"]["uid"] for pod in _pods(platform)} == before


def test_way_is_opened_again_when_it_was_lost(platform: Platform) -> None:
    with Forward(platform.kubectl, "monitoring", "prometheus", 9090) as way:
        way.wait()
        way.lose()
        way.wait()
        assert httpx.get(f"http://{way.place}/-/ready").status_code == 200


class _Foreign(Kubectl):
    """A cluster in which somebody else has a namespace of one of our names; nothing else may be asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        self.asked.append(arguments[0])
        return json.dumps({"items": [{"metadata": {"name": "monitoring", "labels": {}}}]})


@pytest.mark.parametrize("verb", [deployment.up, deployment.down])
def test_somebody_elses_namespace_is_left_alone(verb: Any) -> None:
    cluster = _Foreign()
    with pytest.raises(KubectlError, match=r"namespace monitoring .* was not made by these tests"):
        verb(cluster)
    assert cluster.asked == ["get"]
