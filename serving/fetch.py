"""``python -m serving.fetch``: bring a model directory from a bucket, verified, before the service starts.

Run by the chart's init container. The manifest is compared with the digest that the release names before it is read,
and every file with what the manifest says before it is kept; the manifest is put in place last, so that half a
directory is none.
"""

import argparse
import contextlib
import hashlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from headrace import telemetry
from headrace.errors import HeadraceError, IntegrityError, Unavailable, no_room
from serving.loading import MANIFEST, Manifest, parse_manifest
from serving.signature import SIGNATURE

if TYPE_CHECKING:
    import pyarrow.fs

_log = logging.getLogger("headrace.fetch")

_CONNECT_S, _REQUEST_S = 5.0, 30.0
_TRIES = 3
_PAUSE_S = 1.0
_LARGEST_BYTES = 512 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Bucket:
    """A directory in a bucket, with the rights that the AWS_… variables give.

    Args:
        url: ``s3://bucket/path``, or a folder.
        pause: waits between tries, seconds.
    """

    def __init__(self, url: str, pause: Callable[[float], None] = time.sleep) -> None:
        self._url = url.rstrip("/")
        self._pause = pause
        self._root = self._url.removeprefix("s3://")

    def read(self, name: str) -> bytes | None:
        """A file's content; None when there is no such file.

        Raises:
            Unavailable: the bucket does not answer, or lets nobody in.
            IntegrityError: the file is far larger than any of a model directory.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                with self._files.open_input_stream(f"{self._root}/{name}") as stream:
                    data = stream.read(_LARGEST_BYTES + 1)
                break
            except FileNotFoundError:
                return None
            except OSError as failed:
                if attempt == _TRIES:
                    raise Unavailable(f"{self._url}/{name} can't be read: {_told(failed)}") from failed
                self._pause(_PAUSE_S)
        if len(data) > _LARGEST_BYTES:
            raise IntegrityError(f"{self._url}/{name} has more than {_LARGEST_BYTES} bytes: no model file has")
        return bytes(data)

    @property
    def _files(self) -> "pyarrow.fs.FileSystem":
        import pyarrow.fs

        if not self._url.startswith("s3://"):
            return pyarrow.fs.LocalFileSystem()
        # Arrow reads keys and region from the environment, but no endpoint.
        endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
        there = {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme} if endpoint.netloc else {}
        return pyarrow.fs.S3FileSystem(connect_timeout=_CONNECT_S, request_timeout=_REQUEST_S, **there)


def fetch(bucket: Bucket, digest: str, to: Path) -> bool:
    """Have the directory whose manifest has this sha256 at `to`. Idempotent.

    Returns:
        False when it was there already.

    Raises:
        IntegrityError: the manifest or a file is missing, or another one; no manifest stays, and so no model.
        Unavailable: the bucket does not answer, or there is no room.
    """
    if _is_there(to, digest):
        return False
    with contextlib.suppress(FileNotFoundError):
        (to / MANIFEST).unlink()
    data = _needed(bucket, MANIFEST)
    if hashlib.sha256(data).hexdigest() != digest:
        raise IntegrityError(
            f"{MANIFEST} has sha256 {hashlib.sha256(data).hexdigest()}, but {digest} was released: "
            "somebody changed it in the bucket; deploy the version again"
        )
    manifest = parse_manifest(data, MANIFEST)
    to.mkdir(parents=True, exist_ok=True)
    for name, content in _files(bucket, manifest):
        _write(to / name, content)
    _write(to / MANIFEST, data)
    return True


def _files(bucket: Bucket, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    for name, expected in manifest.files.items():
        if not _NAME.fullmatch(name) or name == MANIFEST:
            raise IntegrityError(f"{MANIFEST} lists {name!r}, which is no name for a file of a model directory")
        content = _needed(bucket, name)
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise IntegrityError(
                f"{name} has sha256 {found}, but the manifest says {expected}: somebody changed it in the bucket"
            )
        yield name, content
    signature = bucket.read(SIGNATURE)
    if signature is not None:
        yield SIGNATURE, signature


def _needed(bucket: Bucket, name: str) -> bytes:
    data = bucket.read(name)
    if data is None:
        raise IntegrityError(f"{name} is not in the bucket: is the version there? deploy it again")
    return data


def _is_there(directory: Path, digest: str) -> bool:
    """Whether all of it is in place, as after a restart of the pod's container."""
    try:
        data = (directory / MANIFEST).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            return False
        listed = parse_manifest(data, MANIFEST).files
        return all(hashlib.sha256((directory / name).read_bytes()).hexdigest() == sha for name, sha in listed.items())
    except (OSError, HeadraceError):
        return False


def _write(path: Path, data: bytes) -> None:
    half = path.with_name(f".{path.name}.part")
    try:
        half.write_bytes(data)
        half.replace(path)
    except OSError as failed:
        with contextlib.suppress(OSError):
            half.unlink()
        raise no_room(failed) or Unavailable(f"{path} can't be written: {failed.strerror}") from failed


def _told(failed: OSError) -> str:
    """The library's words without its own advice; it repeats no key."""
    return re.split(r"\. Detail: |\bDetail: ", str(failed), maxsplit=1)[0][:300]


def main(arguments: list[str] | None = None) -> int:
    """Fetch; the exit code is that of the error."""
    parser = argparse.ArgumentParser(prog="python -m serving.fetch", description=__doc__)
    parser.add_argument(
        "--from", dest="url", required=True, help="s3://bucket/path of the model directory, or a folder"
    )
    parser.add_argument("--digest", required=True, help="sha256 of its manifest.json")
    parser.add_argument("--to", type=Path, required=True, help="folder to put it in")
    options = parser.parse_args(arguments)
    telemetry.configure()
    began = time.monotonic()
    try:
        is_new = fetch(Bucket(options.url), options.digest, options.to)
    except HeadraceError as failed:
        _log.error("the model was not fetched", extra={"fields": {"error": str(failed), "from": options.url}})
        return failed.exit_code
    fields = {"from": options.url, "digest": options.digest, "took_s": round(time.monotonic() - began, 3)}
    _log.info("the model is fetched" if is_new else "the model was there", extra={"fields": fields})
    return 0


if __name__ == "__main__":
    code = main()
    # The S3 library's own end takes longer than all the rest.
    sys.stderr.flush()
    os._exit(code)
