"""`headrace --context cluster`: the cluster's adapters, and no act on this machine."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace import bootstrap
from headrace import settings as environment
from headrace.adapters.cluster.object_store import ObjectStore
from headrace.adapters.cluster.traefik_router import CustomResourceRouter
from headrace.adapters.local.journal import FolderJournal
from headrace.cli import cli, main

ROOT = Path(__file__).parents[3]
MODEL = "flight_delay"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of nothing, and the environment of a cluster that is named nowhere."""
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADRACE_PROJECT", str(ROOT))
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_STORE", "s3://bucket/prefix")
    monkeypatch.setenv("HEADRACE_MLFLOW_URI", "http://mlflow.invalid")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-such-kubeconfig"))
    return tmp_path / "home"


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and what is said of a command."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().err


def test_context_picks_the_family(home: Path, monkeypatch: pytest.MonkeyPatch):
    here = bootstrap.platform(environment.read(context="cluster"))
    assert isinstance(here.router, CustomResourceRouter)
    assert isinstance(here.journal, ObjectStore)
    assert isinstance(bootstrap.platform(environment.read()).journal, FolderJournal)
    monkeypatch.setenv("HEADRACE_CONTEXT", "cluster")
    assert isinstance(bootstrap.platform(environment.read()).router, CustomResourceRouter)
    assert isinstance(bootstrap.platform(environment.read(context="local")).journal, FolderJournal)


@pytest.mark.parametrize("arguments", [("status",), ("rollout", "status", MODEL), ("rollback", MODEL)])
def test_cluster_that_is_named_nowhere_is_said(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
):
    code, said = fails(capsys, "--context", "cluster", *arguments)
    assert code == 2
    assert "no Kubernetes cluster: " in said
    assert "name its kubeconfig in KUBECONFIG" in said


def test_store_that_is_not_named_is_said(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("HEADRACE_STORE")
    code, said = fails(capsys, "--context", "cluster", "status")
    assert (code, "HEADRACE_STORE is not set: give the s3:// URL" in said) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [("up",), ("up", "--dry-run"), ("down",), ("down", "--dry-run"), ("doctor",), ("logs",), ("logs", "-f")],
)
def test_what_is_about_this_machine_does_nothing_in_a_cluster(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
):
    code, said = fails(capsys, "--context", "cluster", *arguments)
    assert (code, said) == (
        2,
        "error: this is about the processes of this machine, and the context is cluster: ask kubectl\n",
    )
    assert not home.exists()


def test_context_that_is_unknown_is_refused(home: Path):
    done = CliRunner().invoke(cli, ["--context", "moon", "status"])
    assert done.exit_code == 2
    assert "'moon' is not one of 'local', 'cluster'" in done.output


def test_option_wins_over_the_environment(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HEADRACE_CONTEXT", "cluster")
    assert fails(capsys, "--context", "local", "logs") == (0, "")
    assert fails(capsys, "logs")[0] == 2
