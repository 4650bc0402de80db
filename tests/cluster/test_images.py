"""The images as they are built: who runs in them, what is in them and what is not, and that they do their work."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.documents import write_json
from tests.cluster.images import build as images
from tests.cluster.images.catalog import IMAGES, REVISION
from tests.cluster.node import images as on_node
from tests.cluster.platform.kubectl import KubectlError
from tests.cluster.pods import pod
from tests.serving.conftest import EXAMPLE, make_contract, seal, train

OURS = ("components", "mlflow", "serving")
RUNNING = tuple(name for name in IMAGES if name not in ("base", "helm"))
# What is on top of the base image, on disk.
LARGEST_MB = {"serving": 360, "mlflow": 350, "components": 1100}
TOOLS = re.compile(r"pip[\d.]*|uvx?|gcc[\d.-]*|g\+\+|cc|c\+\+|clang|ld|make|go|cargo|curl|wget|git")
SETTINGS = ("etc/pip.conf", "etc/uv/uv.toml", "etc/apt/sources.list", "etc/apt/apt.conf", "root/.netrc", "tmp/.netrc")
IMPORT_ALL = """
import importlib, pkgutil, sys
failed = []
for package in sys.argv[1].split(","):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.startswith(tuple(sys.argv[2].split(","))):
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                failed.append(f"{module.name}: {error}")
sys.exit("\\n".join(failed) or 0)
"""
ASK = """
import sys, urllib.request
headers = {"Content-Type": "application/json"}
asked = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), headers)
print(urllib.request.urlopen(asked, timeout=10).read().decode())
"""
PREDICT = "http://127.0.0.1:8080/v1/models/flight_delay/predict"
# For one machine alone: there supervisor runs what Kubernetes runs in a cluster.
LOCAL = "headrace.adapters.local"

pytestmark = pytest.mark.usefixtures("node")


@pytest.fixture(scope="module", params=OURS)
def ours(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """An image of the project, and its files."""
    with images.files(request.param) as root:
        yield request.param, root


@pytest.mark.parametrize("name", RUNNING)
def test_user_is_a_number_and_not_root(name):
    assert images.configuration(name)["config"]["User"] == "10001:10001"


@pytest.mark.parametrize("name", OURS)
def test_labels_say_what_it_is_and_of_which_source(name):
    labels = images.configuration(name)["config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == f"headrace-{name}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.revision"] == REVISION


def test_nothing_in_it_installs_or_compiles(ours):
    _, root = ours
    programs = [path for folder in root.glob("**/bin") for path in folder.iterdir() if TOOLS.fullmatch(path.name)]
    packages = [path for name in ("pip", "ensurepip", "uv") for path in root.glob(f"**/python3*/**/{name}")]
    assert (programs, packages) == ([], [])


def test_nothing_says_how_the_machine_that_built_it_reaches_packages(ours):
    name, root = ours
    configuration = images.configuration(name)
    told = json.dumps([configuration["config"], configuration["history"]])
    assert not re.search(r"https?://|index-url|PIP_|UV_|SSL_CERT|AWS_|TOKEN|PASSWORD", told)
    assert [one for one in SETTINGS if (root / one).is_file() and (root / one).read_text()] == []
    assert [path for path in (root / "run/secrets").rglob("*") if path.is_file()] == []


def test_no_program_can_be_changed_by_its_user(ours):
    _, root = ours
    paths = [path for path in (root / "opt").rglob("*") if not path.is_symlink()]
    assert len(paths) > 100
    assert [path for path in paths if path.stat().st_uid != 0 or path.stat().st_mode & 0o002] == []


def test_size_is_bounded(ours):
    name, root = ours
    with images.files("base") as base:
        megabytes = (_bytes(root) - _bytes(base)) / 1e6
    packed = images.build([name])[name].stat().st_size / 1e6
    print(f"{name}: {megabytes:.0f} MB on top of the base, {packed:.0f} MB packed with it")
    assert megabytes < LARGEST_MB[name]


def _bytes(root: Path) -> int:
    return sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.parametrize(
    ("name", "packages", "but"), [("serving", "headrace,serving", "-"), ("components", "headrace,components", LOCAL)]
)
def test_every_module_finds_what_it_imports(name, packages, but):
    ran = images.run(name, "python3", "-c", IMPORT_ALL, packages, but)
    assert ran.returncode == 0, ran.stderr


def test_components_have_what_kubeflow_and_the_deploy_step_call():
    calls = (
        'cd "$(mktemp -d)"',
        "python3 -m kfp.dsl.executor_main --help",
        "helm version",
        "cat /opt/headrace/REVISION",
    )
    ran = images.run("components", "sh", "-ec", "\n".join(calls))
    assert ran.returncode == 0, ran.stderr
    assert "--executor_input" in ran.stdout
    assert 'Version:"v4.' in ran.stdout
    assert ran.stdout.endswith(f"{REVISION}\n")


def test_components_have_the_sources_of_the_data():
    make = (
        "python models/bike_demand/data.py /tmp/bikes && python models/flight_delay/data.py raw /tmp/flights && ls /tmp"
    )
    ran = images.run("components", "sh", "-ec", make)
    assert ran.returncode == 0, ran.stderr
    assert {"bikes", "flights"} <= set(ran.stdout.split())


def test_service_answers_with_nothing_that_it_could_write_to(tmp_path, node, kubectl, namespace):
    on_node.load(images.build(["serving"])["serving"], node)
    kubectl("create", "--filename=-", stdin=json.dumps(_service(tmp_path, namespace)))
    kubectl("wait", "--namespace", namespace, "--for=condition=Ready", "pod/serving", "--timeout=120s")
    body = json.dumps({"rows": [EXAMPLE]})
    said = kubectl("exec", "--namespace", namespace, "serving", "--", "python", "-c", ASK, PREDICT, body)
    assert 0 < json.loads(said)["predictions"][0]["probability"] < 1
    with pytest.raises(KubectlError, match="Read-only file system"):
        kubectl("exec", "--namespace", namespace, "serving", "--", "touch", "file")


def _service(folder: Path, namespace: str) -> dict[str, Any]:
    """Manifests of a pod that serves a small model from a ConfigMap."""
    contract = make_contract("binary")
    content, predictions, rows = train("binary", contract)
    (folder / "model.onnx").write_bytes(content)
    write_json(folder / "contract.json", contract)
    write_json(folder / "golden.json", {"rows": rows, "predictions": predictions, "tolerance": 1e-5})
    seal(folder)
    names = sorted(path.name for path in folder.iterdir())
    container = {
        "args": ["--directory", "/model", "--host", "0.0.0.0", "--port", "8080"],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "model", "mountPath": f"/model/{name}", "subPath": name} for name in names],
    }
    made = pod(
        "serving", images.reference("serving"), container, volumes=[{"name": "model", "configMap": {"name": "model"}}]
    )
    made["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = True
    files = {name: base64.b64encode((folder / name).read_bytes()).decode() for name in names}
    model = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "model"}, "binaryData": files}
    items = [{**one, "metadata": {**one["metadata"], "namespace": namespace}} for one in (model, made)]
    return {"apiVersion": "v1", "kind": "List", "items": items}
