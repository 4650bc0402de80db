"""charts/model-service, rendered with the values of a few cases."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.node import toolchain
from tests.cluster.node.place import NodeError

GOLDEN = Path(__file__).parent
CHART = Path(__file__).parents[3] / "charts" / "model-service"
RELEASE = "flight-delay-v12"

MINIMAL: Mapping[str, Any] = {
    "model": "flight_delay",
    "version": 12,
    "image": f"registry.example.com/headrace/serving@sha256:{'0123456789abcdef' * 4}",
    "store": {"url": "s3://headrace/models/flight_delay/12-fedcba987654", "digest": "fedcba9876543210" * 4},
}
EVERYTHING: Mapping[str, Any] = {
    **MINIMAL,
    "store": {**MINIMAL["store"], "endpoint": "http://seaweedfs.headrace-data.svc:8333"},
    "predictionLog": "s3://headrace/predictions",
    "onlineStore": {"secret": "headrace-online-store"},
    "extraArgs": ["--max-rows=500"],
    "imagePullSecrets": [{"name": "registry"}],
    "autoscaling": {"enabled": True},
    "podMonitor": {"labels": {"release": "prometheus"}},
    "networkPolicy": {"store": {"port": 443, "peers": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "models", "operator": "Exists"}],
}
NOTHING: Mapping[str, Any] = {
    **MINIMAL,
    "store": {**MINIMAL["store"], "secret": ""},
    "podDisruptionBudget": {"enabled": False},
    "podMonitor": {"enabled": False},
    "networkPolicy": {"enabled": False},
}
CASES = {"minimal": MINIMAL, "everything": EVERYTHING, "nothing": NOTHING}


class Refused(Exception):
    """Helm does not render it; the text is what it says."""


def helm() -> str:
    """The node's own Helm, or else the one on the PATH.

    Raises:
        NodeError: there is neither.
    """
    built = toolchain.tool("helm")
    found = str(built) if built.exists() else shutil.which("helm")
    if found is None:
        raise NodeError("no helm: `make cluster` builds it; or put Helm 3.18 or newer on the PATH")
    return found


def render(case: str) -> str:
    """The documents of a case."""
    return template(CASES[case])


def template(values: Mapping[str, Any], release: str = RELEASE, *options: str) -> str:
    """What Helm makes of values. Raises Refused."""
    command = [helm(), "template", release, str(CHART), "--namespace=headrace", "--values=-", *options]
    done = subprocess.run(command, input=yaml.safe_dump(dict(values)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout
