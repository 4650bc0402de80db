"""Helm, the program, as what it says and how it ends; in its place a script of the test."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.cluster.helm import Helm
from headrace.errors import Conflict, HeadraceError, Unavailable, UsageError
from tests.unit.cluster.fake_kubernetes import FakeKubernetes

RELEASE = "flight-delay-v3"
Program = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Writes the only `helm` on the PATH; it leaves its arguments and its values in files."""

    def make(code: int = 0, stderr: str = "") -> Path:
        (tmp_path / "said").write_text(stderr)
        (tmp_path / "helm").write_text(
            "#!/bin/sh\n"
            f'for one in "$@"; do echo "$one" >> {tmp_path}/arguments\n'
            f'case "$one" in --values=*) while read -r line; do echo "$line"; done'
            f' < "${{one#--values=}}" > {tmp_path}/values;; esac; done\n'
            f'while read -r line; do echo "$line" >&2; done < {tmp_path}/said\n'
            f"exit {code}\n"
        )
        (tmp_path / "helm").chmod(0o755)
        return tmp_path

    monkeypatch.setenv("PATH", str(tmp_path))
    return make


def record(status: str, age_s: float, name: str = RELEASE, label: bool = True) -> dict[str, Any]:
    """A Secret as Helm keeps it."""
    at = time.time() - age_s
    labels = {"owner": "helm", "name": name, "status": status} | ({"modifiedAt": str(int(at))} if label else {})
    made = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata = {"name": f"sh.helm.release.v1.{name}.{status}", "labels": labels, "creationTimestamp": made}
    return {"metadata": metadata}


def helm(*records: dict[str, Any]) -> tuple[Helm, FakeKubernetes]:
    kubernetes = FakeKubernetes(secrets=records)
    return Helm(kubernetes, "headrace", Path("charts/model-service")), kubernetes


def test_install_gives_the_chart_its_values_and_is_an_upgrade_of_what_is_there(program: Program):
    place = program()
    helm()[0].install(RELEASE, {"model": "flight_delay", "version": 3})
    assert (place / "values").read_text() == "model: flight_delay\nversion: 3\n"
    arguments = (place / "arguments").read_text().splitlines()
    assert arguments[:4] == ["upgrade", RELEASE, "charts/model-service", "--install"]
    assert arguments[-1] == "--namespace=headrace"
    (values,) = [one.removeprefix("--values=") for one in arguments if one.startswith("--values=")]
    assert not Path(values).exists()


def test_helm_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no `helm` on the PATH: install Helm"):
        helm()[0].uninstall(RELEASE)


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", Conflict),
        ('Error: INSTALLATION FAILED: services "flight-delay-v3" already exists', Conflict),
        ('Error: Kubernetes cluster unreachable: Get "https://10.0.0.1:6443/version": EOF', Unavailable),
        ("Error: dial tcp 10.0.0.1:6443: connect: connection refused", Unavailable),
        ("Error: values don't meet the specifications of the schema(s)\n- version: Invalid type", UsageError),
        ('Error: secrets is forbidden: User "x" cannot list resource "secrets"', UsageError),
        ("", UsageError),
    ],
)
def test_failure_of_helm_is_told_by_its_kind(program: Program, stderr: str, kind: type[HeadraceError]):
    program(1, f"WARNING: Kubernetes configuration file is group-readable.\nlevel=WARN msg=x\n{stderr}\n")
    with pytest.raises(HeadraceError, match=f"Helm can't deploy {RELEASE}: ") as told:
        helm()[0].install(RELEASE, {})
    assert type(told.value) is kind
    assert "group-readable" not in str(told.value)
    expected = stderr.removeprefix("Error: ").splitlines() or ["it says nothing"]
    assert all(line in str(told.value) for line in expected)


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback", "uninstalling"])
@pytest.mark.parametrize("label", [True, False])
def test_what_somebody_began_and_left_is_finished(program: Program, status: str, label: bool):
    place = program()
    left = record(status, 120, label=label)
    one, kubernetes = helm(record("deployed", 300), left, record(status, 120, "flight-delay-v4"))
    one.install(RELEASE, {})
    assert kubernetes.deleted == [left["metadata"]["name"]]
    assert (place / "arguments").exists()


def test_what_somebody_is_at_is_left_alone(program: Program):
    place = program()
    one, kubernetes = helm(record("pending-install", 5))
    with pytest.raises(Conflict, match=f"{RELEASE} is being installed by somebody else since"):
        one.install(RELEASE, {})
    assert kubernetes.deleted == []
    assert not (place / "arguments").exists()
