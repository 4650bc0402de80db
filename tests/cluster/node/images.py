"""Images for the node: there is no registry, they are loaded from archives."""

import json
import subprocess
import tarfile
import time
from pathlib import Path

from tests.cluster.node.place import Node, NodeError
from tests.cluster.node.programs import attempt

# containerd puts it on an image once its Kubernetes side knows it; until then kubelet says the image is not there.
_KNOWN = 'labels."io.cri-containerd.image"==managed'
_DEADLINE_S = 30.0


def load(archive: Path, node: Node | None = None) -> list[str]:
    """Bring the images of an OCI archive into the node, in place of older ones of their names.

    Returns:
        The images' references; a pod that names one can start.

    Raises:
        NodeError: the node is not up, or the file is no archive of named images.
    """
    node = node or Node()
    references = _references(archive)
    if not answers(node):
        raise NodeError(f"no node to load {archive} into: bring it up with `make cluster`")
    done = _ctr(node, "images", "import", str(archive))
    if done.returncode:
        raise NodeError(f"{archive} could not be loaded: {done.stderr.strip()}")
    deadline = time.monotonic() + _DEADLINE_S
    for reference in references:
        while not _ctr(node, "images", "list", "--quiet", f"name=={reference},{_KNOWN}").stdout.strip():
            if time.monotonic() > deadline:
                raise NodeError(f"containerd has {reference}, but kubelet was not told of it in {_DEADLINE_S:.0f} s")
            time.sleep(0.05)
    return references


def answers(node: Node) -> bool:
    """Whether containerd is there."""
    return node.runtime.exists() and not _ctr(node, "version").returncode


def _references(archive: Path) -> list[str]:
    try:
        with tarfile.open(archive) as content:
            # Docker's form is the one that buildah writes without packing layers: faster by far for large images.
            if "manifest.json" in content.getnames():
                return [tag for one in json.loads(_read(content, "manifest.json")) for tag in one["RepoTags"]]
            manifests = json.loads(_read(content, "index.json"))["manifests"]
            return [manifest["annotations"]["org.opencontainers.image.ref.name"] for manifest in manifests]
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise NodeError(
            f"{archive} is no OCI archive of a named image ({error!r}): "
            f"make one with `buildah push IMAGE oci-archive:FILE:IMAGE`"
        ) from error


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    return file.read() if file else b""


def _ctr(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    return attempt("ctr", f"--address={node.runtime}", "--namespace=k8s.io", *arguments)
