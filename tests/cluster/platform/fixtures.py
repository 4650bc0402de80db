"""The platform for tests and for people: addresses and environments."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.platform import credentials, deployment
from tests.cluster.platform.access import Forward, forwards
from tests.cluster.platform.credentials import DATA, HEADRACE, Passwords
from tests.cluster.platform.kubectl import Kubectl

_SERVICES = {
    "seaweedfs": (DATA, 8333),
    "postgres": (DATA, 5432),
    "redis": (DATA, 6379),
    "mlflow": (HEADRACE, 5000),
    "traefik": ("traefik", 80),
    "prometheus": ("monitoring", 9090),
}


@dataclass(frozen=True)
class Platform:
    """The platform as it runs.

    Attributes:
        kubectl: an administrator's.
        passwords: of all users of the stores.
        ways: Service to the port of this machine that leads to it.
    """

    kubectl: Kubectl
    passwords: Passwords
    ways: Mapping[str, Forward]

    def url(self, service: str) -> str:
        """Where this machine reaches a Service that speaks HTTP."""
        return f"http://{self.ways[service].place}"

    @property
    def s3(self) -> dict[str, str]:
        """The object store for processes of this machine, with the rights of steps."""
        return {
            **credentials.key("steps", self.passwords.s3_steps),
            "AWS_ENDPOINT_URL": self.url("seaweedfs"),
            "AWS_REGION": credentials.REGION,
            "AWS_DEFAULT_REGION": credentials.REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def environment(self) -> dict[str, str]:
        """What `headrace` and steps need as processes of this machine. In pods it is what Secrets and ConfigMap say."""
        made = self.passwords
        return {
            **deployment.step_settings(),
            **self.s3,
            "KUBECONFIG": str(self.kubectl.kubeconfig),
            "HEADRACE_MLFLOW_URI": self.url("mlflow"),
            "HEADRACE_ONLINE_STORE": credentials.online_store("steps", made.redis_steps, self.ways["redis"].place),
            "HEADRACE_FEAST_REGISTRY": credentials.feast_registry(made.postgres_feast, self.ways["postgres"].place),
        }


@contextmanager
def running(kubectl: Kubectl) -> Iterator[Platform]:
    """The platform, up when it is not, and ways to it that are gone afterwards."""
    passwords = deployment.up(kubectl)
    with forwards(kubectl, _SERVICES) as ways:
        yield Platform(kubectl, passwords, ways)


@pytest.fixture(scope="session")
def platform(kubeconfig: Path) -> Iterator[Platform]:
    """The platform. One that was up stays up, one of this session goes with it."""
    kubectl = Kubectl(kubeconfig)
    stays = bool(kubectl("get", "namespace", DATA, "--ignore-not-found"))
    load_images(kubectl)
    with running(kubectl) as platform:
        yield platform
    if not stays:
        deployment.down(kubectl)


def load_images(kubectl: Kubectl, names: Sequence[str] = deployment.IMAGES) -> None:
    """On our own node; another cluster has been given them by whoever made it."""
    from tests.cluster.images.build import build
    from tests.cluster.node import images
    from tests.cluster.node.place import Node

    if kubectl.kubeconfig.resolve() == Node().kubeconfig.resolve():
        for archive in build(names).values():
            images.load(archive)
