"""OCI archives of images that hold one static binary and nothing else."""

import hashlib
import io
import json
import os
import platform
import tarfile
from pathlib import Path

_OCI = "application/vnd.oci.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_once(path: Path, reference: str, binary: Path) -> None:
    """Write the archive unless it is there. The image's entry point is the binary, its user 65532."""
    if path.exists():
        return
    layer = _layer(binary)
    machine = platform.machine()
    config = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Entrypoint": [f"/{binary.name}"], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = [layer, json.dumps(config).encode()]
    manifest: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": _descriptor(f"{_OCI}.config.v1+json", blobs[1]),
        "layers": [_descriptor(f"{_OCI}.layer.v1.tar", layer)],
    }
    blobs.append(json.dumps(manifest).encode())
    names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    entry = {**_descriptor(f"{_OCI}.manifest.v1+json", blobs[2]), "annotations": names}
    index = {"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": [entry]}
    part = path.with_suffix(f".{os.getpid()}")
    with tarfile.open(part, "w") as archive:
        _add(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(archive, "index.json", json.dumps(index).encode())
        for blob in blobs:
            _add(archive, f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}", blob)
    part.rename(path)


def _layer(binary: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as layer:
        _add(layer, binary.name, binary.read_bytes(), mode=0o755)
    return content.getvalue()


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, 0
    archive.addfile(member, io.BytesIO(content))
