"""charts/model-service: what it renders, what it refuses, and what it never says."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import headrace
from headrace.domain.lineage import release_name
from serving.options import parser
from tests.cluster.fixtures import not_to_be_had
from tests.cluster.node import toolchain
from tests.cluster.node.place import NodeError
from tests.golden.charts.render import (
    CASES,
    CHART,
    EVERYTHING,
    GOLDEN,
    MINIMAL,
    RELEASE,
    Refused,
    helm,
    render,
    template,
)

Object = Mapping[str, Any]
OLDEST = "1.30.0"


@pytest.fixture(scope="module", autouse=True)
def program() -> str:
    """Helm; where there is none, the tests are skipped, but never in CI, which builds it."""
    try:
        if os.environ.get("CI"):
            toolchain.build()
        return helm()
    except NodeError as missing:
        not_to_be_had(str(missing))


def documents(values: Mapping[str, Any]) -> dict[str, Object]:
    """Kind to object."""
    return {one["kind"]: one for one in yaml.safe_load_all(template(values)) if one}


def pod(values: Mapping[str, Any]) -> Object:
    return dict(documents(values)["Deployment"]["spec"]["template"]["spec"])


def changed(**values: Any) -> dict[str, Any]:
    """The smallest values, with others instead."""
    return {**MINIMAL, **values}


def store(**values: Any) -> dict[str, Any]:
    """The smallest values, with another store."""
    return changed(store={**MINIMAL["store"], **values})


@pytest.mark.parametrize("case", CASES)
def test_chart_renders_what_is_committed(case: str) -> None:
    assert render(case) == (GOLDEN / f"{case}.yaml").read_text(), "run `make golden`"


def test_helm_finds_nothing_to_complain_of(program: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(dict(EVERYTHING)))
    command = [program, "lint", "--strict", str(CHART), f"--values={values}"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_object_is_named_and_labelled_as_the_release() -> None:
    found = documents(EVERYTHING)
    assert set(found) == {
        "Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy",
        "PodMonitor",
    }  # fmt: skip
    for kind, one in found.items():
        metadata = one["metadata"]
        assert (metadata["name"], metadata["namespace"]) == (RELEASE, "headrace"), kind
        assert (
            metadata["labels"].items()
            >= {
                "app.kubernetes.io/name": "model-service",
                "app.kubernetes.io/instance": RELEASE,
                "app.kubernetes.io/version": "12",
                "app.kubernetes.io/component": "serving",
                "app.kubernetes.io/part-of": "headrace",
                "app.kubernetes.io/managed-by": "Helm",
                "headrace.dev/model": "flight_delay",
                "headrace.dev/version": "12",
            }.items()
        )
    assert release_name("flight_delay", 12) == RELEASE
    assert found["PodMonitor"]["metadata"]["labels"]["release"] == "prometheus"


def test_chart_says_no_weight_anywhere() -> None:
    for path in (path for path in CHART.rglob("*") if path.is_file()):
        assert "weight" not in path.read_text().lower(), path


def test_chart_has_headraces_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == headrace.__version__


@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted_bounded_and_hold_no_token(case: str) -> None:
    found = pod(CASES[case])
    assert found["automountServiceAccountToken"] is False
    assert documents(CASES[case])["ServiceAccount"]["automountServiceAccountToken"] is False
    for container in (*found["initContainers"], *found["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert set(container["resources"]["requests"]) == {"cpu", "memory", "ephemeral-storage"}
        assert set(container["resources"]["limits"]) == {"memory", "ephemeral-storage"}
    assert all(volume["emptyDir"]["sizeLimit"] for volume in found["volumes"])


def test_model_is_fetched_by_digest_and_read_only_for_the_service() -> None:
    (fetch,), (service,) = pod(MINIMAL)["initContainers"], pod(MINIMAL)["containers"]
    assert fetch["command"] == ["python", "-m", "serving.fetch"]
    wanted = MINIMAL["store"]
    assert fetch["args"] == [f"--from={wanted['url']}", f"--digest={wanted['digest']}", "--to=/model"]
    assert fetch["image"] == service["image"] == MINIMAL["image"]
    assert {"name": "model", "mountPath": "/model", "readOnly": True} in service["volumeMounts"]


@pytest.mark.parametrize("case", CASES)
def test_service_takes_its_flags_and_has_time_to_drain(case: str) -> None:
    (service,) = pod(CASES[case])["containers"]
    options = parser().parse_args(service["args"])
    writable = {mount["mountPath"] for mount in service["volumeMounts"] if not mount.get("readOnly")}
    assert options.prediction_log is None or str(options.prediction_log) in writable
    sleep_s = service["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(CASES[case])["terminationGracePeriodSeconds"] >= sleep_s + options.drain_s + 30 + 25


def test_secrets_are_named_and_never_held() -> None:
    text = template(EVERYTHING)
    assert "kind: Secret" not in text
    assert text.count("secretKeyRef") == 5
    assert "--online-store=$(ONLINE_STORE)" in text
    assert "secretKeyRef" not in render("nothing")


def test_autoscaler_and_replicas_do_not_fight() -> None:
    assert "replicas" not in documents(EVERYTHING)["Deployment"]["spec"]
    assert documents(MINIMAL)["Deployment"]["spec"]["replicas"] == 1
    assert "HorizontalPodAutoscaler" not in documents(MINIMAL)


def test_network_policy_lets_in_the_proxy_and_prometheus_and_out_to_the_stores() -> None:
    policy = documents(EVERYTHING)["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (ingress,) = policy["ingress"]
    namespaces = [one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for one in ingress["from"]]
    assert namespaces == ["traefik", "monitoring"]
    assert all(one["podSelector"]["matchLabels"] for one in ingress["from"])
    assert ingress["ports"] == [{"port": "http", "protocol": "TCP"}]
    dns, bucket, online = policy["egress"]
    assert {one["port"] for one in dns["ports"]} == {53}
    assert bucket == {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443, "protocol": "TCP"}]}
    assert online["ports"] == [{"port": 6379, "protocol": "TCP"}]
    assert len(documents(MINIMAL)["NetworkPolicy"]["spec"]["egress"]) == 2


def test_peers_that_are_given_replace_those_of_the_chart() -> None:
    mine = [{"podSelector": {"matchLabels": {"app": "gateway"}}}]
    (ingress,) = documents(changed(networkPolicy={"proxy": mine}))["NetworkPolicy"]["spec"]["ingress"]
    assert ingress["from"][:-1] == mine


EMPTY: Mapping[str, Any] = {"model": "", "version": 0, "image": "", "store": {}}
SENTENCES = [
    (changed(model="Flight-Delay"), 'model is "Flight-Delay": give the model\'s name, in snake_case'),
    (changed(version=0), "version is 0: give the number of a registered version, 1 or more"),
    (changed(version=13), 'in a release named "flight-delay-v12": name it "flight-delay-v13"'),
    (changed(image="registry:5000/serving"), 'image is "registry:5000/serving", without tag or digest: give it as'),
    (changed(image="serving@sha256:abc"), "without tag or digest: give it as name@sha256:… or name:tag"),
    (changed(image="serving:latest"), 'image is "serving:latest", which moves, .*: give it by digest'),
    (store(digest="abc"), 'store.digest is "abc": give the sha256 of the version\'s manifest.json'),
    (store(url="https://x/y"), 'store.url is "https://x/y": give s3://bucket/path'),
    (store(url="s3://bucket/a/../b"), 'store.url is "s3://bucket/a/../b": give s3://bucket/path'),
    (store(endpoint="seaweedfs:8333"), 'store.endpoint is "seaweedfs:8333": give http://host:port'),
    (changed(predictionLog="/var/log"), 'predictionLog is "/var/log": give s3://bucket/path, or nothing'),
    (
        changed(onlineStore={"secret": "redis", "key": ""}),
        'onlineStore.key is empty: say under which key Secret "redis"',
    ),
    (changed(extraArgs=["--port", "80"]), "extraArgs has --port, which the chart gives itself: leave it out"),
    (changed(extraArgs=["--online-store=redis://x"]), "extraArgs has --online-store, which the chart gives itself"),
    (changed(replicas=0), "replicas is 0: give 1 or more; a version that shall not run is uninstalled"),
    (changed(autoscaling={"enabled": True, "minReplicas": 0}), "autoscaling.minReplicas is 0: give 1 or more"),
    (
        changed(autoscaling={"enabled": True, "minReplicas": 5, "maxReplicas": 2}),
        "autoscaling.minReplicas is 5, above autoscaling.maxReplicas 2: raise one or lower the other",
    ),
    (changed(autoscaling={"enabled": True, "targetCpuPercent": 0}), "autoscaling.targetCpuPercent is 0: give a perc"),
    (changed(drainSeconds=0), "drainSeconds is 0: give 1 to 600"),
    (changed(networkPolicy={"proxy": []}), "networkPolicy.proxy names nobody, which to a NetworkPolicy is everybody"),
    (changed(networkPolicy={"store": {"peers": [{}]}}), "networkPolicy.store.peers names nobody"),
]


@pytest.mark.parametrize(("values", "sentence"), SENTENCES, ids=[sentence[:40] for _, sentence in SENTENCES])
def test_wrong_value_is_refused_with_a_sentence(values: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        template(values)
    assert re.search(rf"^model-service: value .*{sentence}", str(refused.value), re.MULTILINE), refused.value


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Refused) as refused:
        template(EMPTY)
    said = re.findall(r"^model-service: value (\S+)", str(refused.value), re.MULTILINE)
    assert said == ["model", "image", "store.url", "store.digest"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (changed(weight=10), "additional properties 'weight' not allowed"),
        (store(bucket="x"), "at '/store': additional properties 'bucket' not allowed"),
        (changed(version="12"), "at '/version': got string, want integer"),
        (changed(version=1.5), "at '/version': got number, want integer"),
        (changed(networkPolicy={"dns": None}), "at '/networkPolicy': missing property 'dns'"),
        (changed(resources={"limits": {"memory": "a lot"}}), "at '/resources/limits/memory'"),
        (changed(imagePullPolicy="Sometimes"), "at '/imagePullPolicy': value must be one of"),
    ],
)  # fmt: skip
def test_unknown_value_and_wrong_type_are_refused(values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        template(values)
    assert said in str(refused.value)


def test_schema_lets_no_unknown_value_in_anywhere() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    # `global` is Helm's own; labels have the names that their owner gives them, and are texts.
    rules = {
        json.dumps(one.get("additionalProperties")) for one in objects(schema) if one != schema["properties"]["global"]
    }
    assert rules == {"false", '{"type": "string"}'}
    assert set(schema["properties"]) - {"global"} == set(yaml.safe_load((CHART / "values.yaml").read_text()))


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object, wherever it is."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for one in schema:
            yield from objects(one)


def test_cluster_that_is_too_old_is_refused() -> None:
    template(MINIMAL, RELEASE, f"--kube-version={OLDEST}")
    with pytest.raises(Refused, match=r"chart requires kubeVersion: >=1\.30"):
        template(MINIMAL, RELEASE, "--kube-version=1.29.9")
