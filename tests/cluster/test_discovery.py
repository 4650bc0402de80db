"""What Prometheus is told to scrape."""

from typing import Any

import pytest

from tests.cluster.platform.discovery import targets


def _running(name: str, labels: dict[str, str], phase: str = "Running") -> dict[str, Any]:
    container = {"name": "service", "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 1}]}
    status = {"phase": phase, "podIP": "10.244.0.9"}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [container]}, "status": status}


_MONITOR: dict[str, Any] = {
    "metadata": {"namespace": "headrace", "name": "m-v1"},
    "spec": {"selector": {"matchLabels": {"app": "m"}}, "podMetricsEndpoints": [{"port": "http", "path": "/metrics"}]},
}


def test_targets_are_the_selected_pods_ports_labelled_as_the_operator_does() -> None:
    pods = [
        _running("a", {"app": "m", "other": "x"}),
        _running("b", {"app": "n"}),
        _running("c", {"app": "m"}, "Failed"),
    ]
    labels = {"job": "headrace/m-v1", "namespace": "headrace", "pod": "a", "container": "service", "endpoint": "http"}
    assert list(targets(_MONITOR, pods)) == [
        {"targets": ["10.244.0.9:8080"], "labels": {"__metrics_path__": "/metrics", **labels}}
    ]


def test_pod_monitor_that_is_not_understood_is_refused() -> None:
    spec = {**_MONITOR["spec"], "namespaceSelector": {"any": True}}
    with pytest.raises(ValueError, match="m-v1: namespaceSelector is not understood"):
        list(targets({**_MONITOR, "spec": spec}, []))
