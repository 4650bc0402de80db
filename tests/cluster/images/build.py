"""Build the images of the cluster tests with buildah, once for what goes into each: an archive of every image.

    python -m tests.cluster.images.build NAME...    prints name and archive, a line each

Everything is below the user's cache folder; buildah keeps its layers there too, apart from the user's own.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.cluster.images import machine
from tests.cluster.images.catalog import IMAGES, REVISION, Image, key
from tests.cluster.node.locks import exclusive
from tests.cluster.node.place import CACHE, CHECKOUT, NodeError
from tests.cluster.node.requirements import require_packages

FOLDER = CACHE / "images"
# buildah forgets no step of a build by itself; without any of them, libraries are installed anew, in minutes.
_MOST_LAYERS = 400


def build(names: Iterable[str]) -> dict[str, Path]:
    """Build what is not built.

    Returns:
        Name to an OCI archive of `reference(name)`.

    Raises:
        NodeError: an image can't be built; buildah's last words are in the message.
    """
    return {name: _archive(name) for name in names}


def _archive(name: str) -> Path:
    archive = FOLDER / f"{name}-{key(name)}.tar"
    if archive.exists():
        return archive
    require_packages("buildah")
    with exclusive("images"):
        image = _built(name)
        archive = FOLDER / f"{name}-{image.rpartition(':')[2]}.tar"
        if not archive.exists():
            _export(name, image, archive)
    return archive


def reference(name: str) -> str:
    """What pods call the image."""
    return f"localhost/headrace/{name}:test"


def configuration(name: str) -> dict[str, Any]:
    """What a container runtime is told: the OCI image configuration of the archive, history included."""
    with tarfile.open(build([name])[name]) as archive:
        (listed,) = _json(archive, "index.json")["manifests"]
        manifest = _json(archive, _blob(listed))
        return _json(archive, _blob(manifest["config"]))


def _blob(descriptor: Mapping[str, str]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def _json(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    file = archive.extractfile(name)
    assert file is not None
    return dict(json.load(file))


@contextlib.contextmanager
def files(name: str) -> Iterator[Path]:
    """All files of an image, mounted to be read."""
    container = _container(name)
    try:
        yield Path(_buildah("mount", container).strip())
    finally:
        _buildah("rm", container)


def run(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a container of the image, as its user, in a chroot whose changes are dropped."""
    container = _container(name)
    try:
        return _call("run", "--isolation", "chroot", container, "--", *command)
    finally:
        _buildah("rm", container)


def _container(name: str) -> str:
    with exclusive("images"):
        return _buildah("from", "--pull=never", "--name", f"headrace-{uuid.uuid4().hex}", _built(name)).strip()


def _built(name: str) -> str:
    """The name in buildah's storage of the image as it is now in the checkout; builds what is missing."""
    wanted = key(name)
    tag = f"localhost/headrace/{name}:{wanted}"
    if _call("inspect", "--type", "image", tag).returncode == 0:
        return tag
    image = IMAGES[name]
    arguments = {argument: _built(needed) for argument, needed in image.needs.items()}
    arguments["REVISION"] = REVISION
    if len(list((FOLDER / "storage/overlay-images").glob("*"))) > _MOST_LAYERS:
        _call("rmi", "--prune")
    started = time.monotonic()
    print(f"building image {name}", file=sys.stderr, flush=True)
    with _context(image) as context, machine.settings() as own, _nothing_mounted():
        _buildah(
            *("bud", "--isolation", "chroot", "--layers", "--pull-never", "--tag", tag),
            *("--file", str(CHECKOUT / image.dockerfile)),
            *own,
            # Not `RUN --mount=type=cache`: buildah 1.28 empties the whole container after it.
            f"--volume={_made(FOLDER / 'wheels')}:/root/.cache",
            *(f"--build-arg={argument}={value}" for argument, value in arguments.items()),
            str(context),
        )
    print(f"image {name} took {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if key(name) != wanted:  # somebody edited while it was built
        _buildah("rmi", tag)
        return _built(name)
    for old in _call("images", "--noheading", "--format", "{{.Name}}:{{.Tag}}").stdout.split():
        if old.startswith(f"localhost/headrace/{name}:") and old != tag:
            _call("rmi", old)  # refused while another image is made from it
    return tag


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _nothing_mounted() -> Iterator[None]:
    """buildah 1.28 leaves the containers of a build that fails, and of a stage with nothing but a FROM."""
    try:
        yield
    finally:
        for container in _buildah("containers", "--noheading", "--format", "{{.ContainerName}}").split():
            if "-working-container" in container:
                _buildah("rm", container)


@contextlib.contextmanager
def _context(image: Image) -> Iterator[Path]:
    if not image.files:
        yield CHECKOUT / image.context
        return
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix=".context-") as folder:
        for name, find in image.files.items():
            _link(find(), Path(folder) / name)
        yield Path(folder)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy(source, target)


def _export(name: str, image: str, archive: Path) -> None:
    part = archive.with_suffix(f".{os.getpid()}")
    try:
        # Not packed at all, an image takes twice as long to import; gzip takes twice as long to write.
        packing = ("--compression-format", "zstd", "--compression-level", "1")
        _buildah("push", "--quiet", *packing, image, f"oci-archive:{part}:{reference(name)}")
        for old in FOLDER.glob(f"{name}-{'[0-9a-f]' * 16}.tar"):
            old.unlink()
        part.rename(archive)
    finally:
        part.unlink(missing_ok=True)


def _buildah(*arguments: str) -> str:
    done = _call(*arguments)
    if done.returncode:
        said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        raise NodeError(f"buildah {' '.join(arguments)} failed ({done.returncode}):\n{said}")
    return done.stdout


def _call(*arguments: str) -> subprocess.CompletedProcess[str]:
    own = [f"--root={FOLDER / 'storage'}", f"--runroot={FOLDER / 'run'}", "--storage-driver=overlay"]
    own.append("--storage-opt=skip_mount_home=true")  # else it leaves its storage mounted on itself
    return subprocess.run(
        ["buildah", *own, *arguments],  # noqa: S607
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _environment() -> Mapping[str, str]:
    return {**os.environ, "TMPDIR": str(_made(FOLDER / "tmp"))}


if __name__ == "__main__":
    for built, path in build(sys.argv[1:] or IMAGES).items():
        print(built, path)
