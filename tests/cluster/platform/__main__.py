"""The platform from the command line."""

import shlex
import signal
import sys

from tests.cluster.platform import deployment
from tests.cluster.platform.fixtures import load_images, running
from tests.cluster.platform.kubectl import Kubectl
from tests.cluster.platform.probe import probe


def main(verb: str) -> int:
    """Do it; 2 for an unknown verb."""
    kubectl = Kubectl()
    match verb:
        case "up":
            load_images(kubectl)
            deployment.up(kubectl)
        case "down":
            deployment.down(kubectl)
        case "forward":
            _forward(kubectl)
        case "probe":
            return _probe(kubectl)
        case _:
            print(__doc__, "up | down | forward | probe", file=sys.stderr)
            return 2
    return 0


def _forward(kubectl: Kubectl) -> None:
    """Keep ways to the platform open until a signal, and print the environment that leads through them."""
    with running(kubectl) as platform:
        for name, value in {**platform.environment, "TRAEFIK": platform.url("traefik")}.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


def _probe(kubectl: Kubectl) -> int:
    """Say which connections come through that should not, and the other way round; 1 when there are any."""
    found = probe(kubectl)
    for said, connections in (
        ("comes through and is not wanted", found.unwanted),
        ("is wanted and does not come through", found.missing),
    ):
        for one in connections:
            print(f"{one.source} -> {one.target}:{one.port} {said}")
    return 1 if found.unwanted or found.missing else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or [""]))
