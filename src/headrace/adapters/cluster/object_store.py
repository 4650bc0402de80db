"""The platform's bucket: model directories that services fetch, and what rollouts saw."""

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from headrace.adapters.mlflow_files import MANIFEST
from headrace.documents import bind, plain
from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout import Look
from headrace.errors import DataError, IntegrityError, Unavailable

if TYPE_CHECKING:
    import pyarrow.fs

_CONNECT_S, _REQUEST_S = 5.0, 30.0


class Published(NamedTuple):
    """A model directory in the bucket: where, and the sha256 of its manifest, which lists all other files."""

    url: str
    digest: str


class ObjectStore:
    """Objects below an s3:// URL, with the rights that the AWS_… variables give.

    Args:
        url: ``s3://bucket/prefix``, or a folder.
        endpoint: http(s):// address of the bucket's service; empty is AWS.
    """

    def __init__(self, url: str, endpoint: str = "") -> None:
        self._url = url.rstrip("/")
        self._endpoint = urlsplit(endpoint)
        self._opened: tuple[pyarrow.fs.FileSystem, str] | None = None

    def publish(self, version: ModelVersion, directory: Path) -> Published:
        """Have a version's directory in the bucket. Idempotent; the manifest is written last, so half is nothing.

        Raises:
            IntegrityError: the directory is not the one that the registry recorded.
            Unavailable: the bucket can't be reached, or not written.
        """
        manifest = directory / MANIFEST
        try:
            digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        except OSError as missing:
            raise IntegrityError(f"{manifest} can't be read: {missing.strerror}; fetch the version again") from missing
        where = f"models/{version.model}/{version.version}-{digest[:12]}"
        if self._read(f"{where}/{MANIFEST}") != manifest.read_bytes():
            files = sorted((one for one in directory.iterdir() if one.is_file()), key=lambda one: one.name == MANIFEST)
            for file in files:
                self._write(f"{where}/{file.name}", file.read_bytes())
        return Published(f"{self._url}/{where}", digest)

    def append(self, model: str, rollout: str, look: Look) -> None:
        """The Journal port: one object a look, named by its moment, and by chance where two are of the same one.

        Raises:
            Unavailable: the bucket can't be reached, or not written.
        """
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"
        self._write(f"{_looks(model, rollout)}/{name}", json.dumps(plain(look)).encode())

    def looks(self, model: str, rollout: str) -> Sequence[Look]:
        """See the Journal port.

        Raises:
            Unavailable: the bucket can't be reached.
            DataError: an object is no look: another Headrace wrote it.
        """
        import pyarrow.fs

        files, root = self._open()
        folder = f"{root}/{_looks(model, rollout)}"
        try:
            infos = files.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True))
            names = sorted(info.path for info in infos if info.type == pyarrow.fs.FileType.File)
            found = [(name, files.open_input_stream(name, compression=None).read()) for name in names]
        except OSError as failed:
            raise self._unavailable("read", failed) from failed
        try:
            return [bind(Look, json.loads(text), name, DataError) for name, text in found]
        except ValueError as broken:
            raise DataError(f"{self._url}: the record of rollout {rollout} is broken: {broken}") from broken

    def _read(self, name: str) -> bytes | None:
        files, root = self._open()
        try:
            with files.open_input_stream(f"{root}/{name}", compression=None) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None
        except OSError as failed:
            raise self._unavailable("read", failed) from failed

    def _write(self, name: str, data: bytes) -> None:
        files, root = self._open()
        try:
            if "://" not in self._url:
                files.create_dir(f"{root}/{name}".rsplit("/", 1)[0])
            with files.open_output_stream(f"{root}/{name}", compression=None) as stream:
                stream.write(data)
        except OSError as failed:
            raise self._unavailable("written", failed) from failed

    def _open(self) -> tuple["pyarrow.fs.FileSystem", str]:
        import pyarrow.fs

        if self._opened is None:
            if "://" in self._url:
                at = self._endpoint
                there = {"endpoint_override": at.netloc, "scheme": at.scheme} if at.netloc else {}
                files = pyarrow.fs.S3FileSystem(connect_timeout=_CONNECT_S, request_timeout=_REQUEST_S, **there)
                self._opened = files, self._url.removeprefix("s3://")
            else:
                self._opened = pyarrow.fs.LocalFileSystem(), self._url
        return self._opened

    def _unavailable(self, what: str, failed: OSError) -> Unavailable:
        said = str(failed).split(". Detail:", maxsplit=1)[0][:300]
        return Unavailable(
            f"{self._url} can't be {what}: {said}; do AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY give access to it?"
        )


def _looks(model: str, rollout: str) -> str:
    return f"rollouts/{model}/{rollout}"
