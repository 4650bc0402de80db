"""The environment, read once."""

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
