"""charts/model-service as others' tools see it: Kubernetes' own schemas, and checkov."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from sysconfig import get_path

import pytest
import yaml

from tests.cluster.fixtures import not_to_be_had
from tests.golden.charts.render import CASES, GOLDEN

# Not in the environment: checkov pins a hundred packages to one version each.
CHECKOV, VALIDATE = "checkov==3.3.30", "kubernetes-validate==1.37.0"
OLDEST, NODES = "1.30.0", "1.34.0"
SKIPPED = {
    "CKV_K8S_11": "a limit of CPU makes answers late while the node is idle; the request says what is a pod's share",
    "CKV_K8S_35": "S3's libraries take keys from the environment; nobody else runs in the pod who could read it there",
}


def run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program from the package index, in an environment of its own."""
    uv = which("uv", path=get_path("scripts")) or "uv"
    command = [uv, "tool", "run", tool, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Failed to fetch" in done.stderr or "No solution found" in done.stderr:
        not_to_be_had(f"{tool} can't be installed: {done.stderr.strip()[-300:]}")
    return done


def of_kubernetes(folder: Path) -> Sequence[str]:
    """The rendered objects but those of the Prometheus operator, a file each case."""
    files = []
    for case in CASES:
        files.append(folder / f"{case}.yaml")
        rendered = yaml.safe_load_all((GOLDEN / f"{case}.yaml").read_text())
        files[-1].write_text(yaml.safe_dump_all([one for one in rendered if one and one["kind"] != "PodMonitor"]))
    return [str(file) for file in files]


@pytest.mark.parametrize("version", [OLDEST, NODES])
def test_kubernetes_knows_every_field(version: str, tmp_path: Path) -> None:
    done = run(VALIDATE, "--strict", "-k", version, *of_kubernetes(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("passed for resource deployment") == len(CASES)


@pytest.mark.parametrize("case", ["minimal", "everything"])
def test_checkov_finds_nothing_but_what_has_a_reason(case: str) -> None:
    done = run(
        CHECKOV, "--framework=kubernetes", "--skip-download", "--quiet", "-o=json", f"-f={GOLDEN / f'{case}.yaml'}"
    )
    found = json.loads(done.stdout)
    assert found["summary"]["passed"] > 80
    assert {one["check_id"] for one in found["results"]["failed_checks"]} == set(SKIPPED)
