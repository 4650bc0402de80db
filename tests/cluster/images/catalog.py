"""The images that the cluster tests run: their Dockerfiles, what goes into each, and the digest of that."""

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.images import base
from tests.cluster.node import toolchain
from tests.cluster.node.place import CHECKOUT, NodeError

HERE = Path(__file__).parent
# The build argument of the project's own images; a commit here would make every commit a build.
REVISION = "tests"


@dataclass(frozen=True)
class Image:
    """One Dockerfile.

    Attributes:
        dockerfile: relative to the checkout.
        context: the folder that it copies from, relative to the checkout.
        needs: build argument to the image of ours that it names.
        files: name to the file of that name that it copies, where that is no file of the checkout.
    """

    dockerfile: str
    context: str = "."
    needs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Callable[[], Path]] = field(default_factory=dict)


def _installed(name: str) -> Callable[[], Path]:
    """A program that one of the Python packages of the development environment brings."""

    def find() -> Path:
        found = shutil.which(name, path=f"{CHECKOUT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}")
        if found is None:
            raise NodeError(f"{name} is not installed: run `make env`")
        return Path(found)

    return find


def _of_tests(name: str, needs: Mapping[str, str] | None = None, **files: Callable[[], Path]) -> Image:
    return Image(f"{_FOLDER}/{name}.Dockerfile", _FOLDER, needs or {}, files)


_FOLDER = "tests/cluster/images"
_ON_BASE = {"BASE_IMAGE": "base"}
IMAGES: Mapping[str, Image] = {
    "base": Image(f"{_FOLDER}/base.Dockerfile", files={"base.tar": base.archive}),
    "helm": _of_tests("helm", helm=lambda: toolchain.tool("helm")),
    "serving": Image("serving/Dockerfile", needs=_ON_BASE),
    "components": Image("components/Dockerfile", needs={**_ON_BASE, "HELM_IMAGE": "helm"}),
    "mlflow": Image("infra/images/mlflow/Dockerfile", needs=_ON_BASE),
    "stand-in": Image(f"{_FOLDER}/stand-in.Dockerfile", needs={"BASE_IMAGE": "serving"}),
    "postgres": _of_tests("postgres", _ON_BASE),
    "redis": _of_tests("redis", _ON_BASE),
    "prometheus": _of_tests("prometheus", _ON_BASE),
    "seaweedfs": _of_tests("seaweedfs", weed=_installed("weed")),
    "traefik": _of_tests("traefik", traefik=_installed("traefik")),
}


def key(name: str) -> str:
    """The digest of all that goes into an image; equal keys are equal images but for new versions of Debian packages.

    Raises:
        NodeError: a file is missing.
    """
    image = IMAGES[name]
    digest = hashlib.sha256(f"{REVISION}\n".encode())
    for argument, needed in sorted(image.needs.items()):
        digest.update(f"{argument}={key(needed)}\n".encode())
    for label, path in [("Dockerfile", CHECKOUT / image.dockerfile), *_inputs(image)]:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{label} {path.stat().st_mode & stat.S_IXUSR} {content}\n".encode())
    return digest.hexdigest()[:16]


def _inputs(image: Image) -> Iterator[tuple[str, Path]]:
    """What the Dockerfile copies, files alone, in a stable order."""
    for source in copied((CHECKOUT / image.dockerfile).read_text()):
        if source in image.files:
            yield source, image.files[source]()
            continue
        found = sorted((CHECKOUT / image.context).glob(source))
        if not found:
            raise NodeError(f"{image.dockerfile} copies {source}, which is not there")
        for path in found:
            yield from ((str(one.relative_to(CHECKOUT)), one) for one in _files(path))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts)


def copied(dockerfile: str) -> list[str]:
    """The sources of every COPY and ADD that reads the build context."""
    sources = []
    for line in dockerfile.replace("\\\n", " ").splitlines():
        words = line.split()
        if words[:1] in (["COPY"], ["ADD"]) and not any(word.startswith("--from=") for word in words):
            sources += [word for word in words[1:-1] if not word.startswith("--")]
    return sources
