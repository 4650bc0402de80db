"""How this machine reaches package indexes, handed to a build as mounts and secrets: in no layer, in no history."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.images import base

# The same path in the base image, where a file is.
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_UV_SETTINGS = {"UV_DEFAULT_INDEX": "index-url", "UV_INDEX_URL": "index-url", "UV_EXTRA_INDEX_URL": "extra-index-url"}


@contextlib.contextmanager
def settings() -> Iterator[list[str]]:
    """Arguments of `buildah bud`, good while the context lasts."""
    with tempfile.TemporaryDirectory(prefix="headrace-build-") as folder:
        files = {name: Path(folder) / name for name in ("pip", "uv", "apt")}
        files["pip"].write_text(_pip())
        files["uv"].write_text(_uv())
        files["apt"].write_text(_apt())
        secrets = [f"--secret=id={name},src={files[name]}" for name in ("pip", "uv")]
        mounts = {files["apt"]: f"/{base.SETTINGS}", base.sources(): f"/{base.SOURCES}"}
        if _CERTIFICATES.is_file():
            mounts[_CERTIFICATES] = str(_CERTIFICATES)
        yield [*secrets, *(f"--volume={source}:{target}:ro" for source, target in mounts.items())]


def _pip() -> str:
    """pip.conf: what pip goes by here, from files and environment, but for paths of this machine."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = dict(re.findall(r"^(?:global|:env:)\.([a-z-]+)='(.*)'$", listed, re.M))
    kept = {name: found[name] for name in ("index-url", "extra-index-url", "proxy", "timeout") if name in found}
    if _CERTIFICATES.is_file():
        kept["cert"] = str(_CERTIFICATES)
    return "".join(["[global]\n", *(f"{name} = {value}\n" for name, value in kept.items())])


def _uv() -> str:
    """uv.toml: the index of the environment, or else the user's or the machine's file."""
    named = {key: os.environ[name] for name, key in _UV_SETTINGS.items() if os.environ.get(name)}
    if named:
        return "".join(f'{key} = "{value}"\n' for key, value in named.items() if key == "index-url") + "".join(
            f"{key} = {value.split()!r}\n" for key, value in named.items() if key == "extra-index-url"
        )
    files = (Path.home() / ".config/uv/uv.toml", Path("/etc/uv/uv.toml"))
    return next((file.read_text() for file in files if file.is_file()), "")


def _apt() -> str:
    """apt.conf: how apt fetches here (proxies, dates), or nothing where there is no apt."""
    try:
        dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=False)  # noqa: S607
    except FileNotFoundError:
        return ""
    return dump.stdout
