"""The environment, read once."""

import re
from pathlib import Path

import pytest

from headrace import settings
from headrace.errors import UsageError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "conf").mkdir()
    return tmp_path


def test_the_project_is_found_from_a_folder_below_it(project: Path):
    below = project / "models" / "deep"
    below.mkdir()
    assert settings.read({}, below).root == project


def test_no_project_is_said_with_the_folder(tmp_path: Path):
    with pytest.raises(UsageError, match=f"{tmp_path}.*HEADRACE_PROJECT"):
        settings.read({}, tmp_path)


def test_a_misspelt_variable_is_refused_with_those_that_exist(project: Path):
    with pytest.raises(UsageError, match=r"HEADRACE_HTTP_PROT.*HEADRACE_HTTP_PORT"):
        settings.read({"HEADRACE_HTTP_PROT": "1"}, project)


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
def test_a_wrong_port_is_refused_with_its_value(project: Path, port: str):
    with pytest.raises(UsageError, match=f"HEADRACE_MLFLOW_PORT='{port}'"):
        settings.read({"HEADRACE_MLFLOW_PORT": port}, project)


def test_every_field_has_a_variable(project: Path):
    environ = {
        "HEADRACE_PROJECT": str(project),
        "HEADRACE_HOME": "/somewhere",
        "HEADRACE_HTTP_PORT": "1",
        "HEADRACE_ADMIN_PORT": "2",
        "HEADRACE_MLFLOW_PORT": "3",
        "HEADRACE_RELEASE_PORTS": "4",
        "HEADRACE_MLFLOW_URI": "http://mlflow",
        "HEADRACE_DATA_REMOTE": "s3://bucket",
        "HEADRACE_PREDICTION_LOG": "s3://log",
        "HEADRACE_MODELS": "a, b",
    }
    expected = settings.Settings(
        project, Path("/somewhere"), 1, 2, 3, 4, "http://mlflow", "s3://bucket", "s3://log", ("a", "b")
    )
    assert settings.read(environ) == expected
    assert expected.tracking_uri == "http://mlflow"


def test_one_port_for_two_things_is_refused_with_both(project: Path):
    with pytest.raises(UsageError, match=r"HEADRACE_HTTP_PORT and HEADRACE_ADMIN_PORT are both 8081"):
        settings.read({"HEADRACE_HTTP_PORT": "8081"}, project)


def test_the_context_that_is_asked_for_wins_over_the_environment(project: Path):
    assert settings.read({}, project).context == "local"
    environ = {"HEADRACE_CONTEXT": "cluster"}
    assert settings.read(environ, project).context == "cluster"
    assert settings.read(environ, project, context="local").context == "local"


def test_what_a_cluster_needs_is_read(project: Path):
    given = {
        "namespace": "models",
        "store": "s3://my.bucket-1/some/prefix",
        "store_endpoint": "http://seaweedfs:8333",
        "store_region": "eu-west-1",
        "store_secret": "s3-key",
        "online_store": "redis://redis:6379",
        "online_store_secret": "redis-url",
        "feast_registry": "postgresql+psycopg://postgres/feast",
        "serving_image": "registry/serving@sha256:0a",
        "proxy_url": "http://models.example",
        "proxy_service": "ingress/traefik",
        "prometheus_url": "http://prometheus:9090",
        "kfp_url": "http://kfp:8888",
        "components_image": "registry/components:1",
    }
    read = settings.read({settings.variable(name): value for name, value in given.items()}, project, "cluster")
    assert {name: getattr(read, name) for name in given} == given


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("context", "moon", "local or cluster"),
        ("store", "bucket/prefix", "s3://bucket/prefix"),
        ("store", "s3://", "s3://bucket/prefix"),
        ("store", "s3://bucket/a b", "s3://bucket/prefix"),
        ("store", "s3://bucket/x?endpoint_override=y", "s3://bucket/prefix"),
        ("store", "https://bucket/prefix", "s3://bucket/prefix"),
        ("proxy_service", "traefik", "namespace/name"),
        ("proxy_service", "/traefik", "namespace/name"),
        ("proxy_service", "a/b/c", "namespace/name"),
    ],
)
def test_what_is_not_of_its_form_is_refused_with_its_value(project: Path, name: str, value: str, form: str):
    with pytest.raises(UsageError, match=f"HEADRACE_{name.upper()}={re.escape(repr(value))} is .*{form}"):
        settings.read({f"HEADRACE_{name.upper()}": value}, project)


@pytest.mark.parametrize("field", ["store", "serving_image"])
def test_what_a_cluster_needs_and_has_not_is_asked_for(project: Path, field: str):
    with pytest.raises(UsageError, match=f"HEADRACE_{field.upper()} is not set: give the "):
        settings.read({}, project, "cluster").required(field)


def test_mlflow_of_a_cluster_has_to_be_named(project: Path):
    with pytest.raises(UsageError, match="HEADRACE_MLFLOW_URI has to name the MLflow server"):
        _ = settings.read({}, project, "cluster").tracking_uri


def test_urls_that_have_passwords_are_not_told(project: Path):
    told = {"HEADRACE_ONLINE_STORE": "redis://:hush@redis", "HEADRACE_FEAST_REGISTRY": "postgresql://u:hush@db"}
    assert "hush" not in repr(settings.read(told, project))
