"""``python -m serving.fetch --from s3://… --digest SHA256 --to DIRECTORY``: bring a model directory from a bucket.

The chart's init container runs it before the service starts. The digest is that of manifest.json, which is compared
with it before it is parsed, as every other file is with what the manifest lists. manifest.json comes last, so that half
a directory is none.
"""

import argparse
import contextlib
import hashlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from headrace import telemetry
from headrace.errors import DataError, HeadraceError, IntegrityError, Unavailable, UsageError, no_room
from serving.loading import MANIFEST, MAX_FILE_BYTES, parse_manifest
from serving.signature import SIGNATURE, digests

_log = logging.getLogger("headrace.fetch")

# A name in it is followed by 64 letters of sha256: this is room for thousands. A signature is about as long.
_MAX_MANIFEST_BYTES = 1024 * 1024
_CHUNK_BYTES = 4 * 1024 * 1024
_HALF = ".part"

# No segment begins with a dot, and nothing is there that a URL would have to escape.
_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]*[a-z0-9](/[A-Za-z0-9_=+-][A-Za-z0-9._=+-]*)+")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# A store that refuses connections is given up after about 3 s, one that swallows them after about 15 s.
_CONNECT_S, _REQUEST_S, _ATTEMPTS = 3.0, 10.0, 4


class Bucket:
    """A directory in a bucket, with the endpoint and the rights that the AWS_… variables give.

    Args:
        url: ``s3://bucket/path``.

    Raises:
        UsageError: it is not of that form.
    """

    def __init__(self, url: str) -> None:
        import pyarrow.fs

        self.url = url.rstrip("/")
        if not _URL.fullmatch(self.url):
            shown = "what is given" if "@" in url else repr(url)
            raise UsageError(f"{shown} is no place of a model directory: give s3://bucket/path, credentials by AWS_…")
        # Arrow's constructor takes the rest from the environment, but not this.
        self._endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        self._files = pyarrow.fs.S3FileSystem(
            endpoint_override=self._endpoint or None,
            connect_timeout=_CONNECT_S,
            request_timeout=_REQUEST_S,
            retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        )

    def chunks(self, name: str, most_bytes: int) -> Iterator[bytes]:
        """A file's content, piece by piece.

        Raises:
            DataError: there is no such file, or no such bucket.
            UsageError: the credentials do not let it be read.
            IntegrityError: it has more than `most_bytes`.
            Unavailable: the store does not answer, or breaks off.
        """
        where = f"{self.url}/{name}"
        with self._explained(where):
            # By default, what is called .gz would be unpacked.
            stream = self._files.open_input_stream(where.removeprefix("s3://"), compression=None)
        size = 0
        with stream:
            while True:
                with self._explained(where):
                    chunk = stream.read(_CHUNK_BYTES)
                size += len(chunk)
                if size > most_bytes:
                    raise IntegrityError(f"{where} has more than {most_bytes} bytes, which no file of a model has")
                if not chunk:
                    return
                yield chunk

    @contextlib.contextmanager
    def _explained(self, where: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as missing:
            bucket = self.url.removeprefix("s3://").partition("/")[0]
            what = where if self._has(bucket) else f"bucket {bucket}"
            at = self._endpoint or "AWS"
            raise DataError(f"{what} is not there, at {at}: was the version published to this store?") from missing
        except OSError as failed:
            said = str(failed).partition("AWS Error ")[2][:200] or str(failed)[:200]
            if said.startswith("ACCESS_DENIED"):
                raise UsageError(
                    f"{where} may not be read with these credentials, or is not there: give AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY of somebody who may (in the chart: the Secret that store.secret names)"
                ) from failed
            raise Unavailable(
                f"{where} can't be read: {said}; is {self._endpoint or 'AWS'} the store's address, does it run, and "
                "may this pod reach it (in the chart: networkPolicy.store)?"
            ) from failed

    def _has(self, bucket: str) -> bool:
        import pyarrow.fs

        try:
            return bool(self._files.get_file_info(bucket).type != pyarrow.fs.FileType.NotFound)
        except OSError:  # who may read an object need not be one who may look at its bucket
            return True


def fetch(bucket: Bucket, digest: str, to: Path) -> bool:
    """Have the directory whose manifest has this sha256. Idempotent; what is there and right is not fetched again.

    Returns:
        False when all of it was there.

    Raises:
        DataError: the bucket, the manifest or a listed file is not there.
        IntegrityError: a file is not the recorded one, or `to` holds something else.
        UsageError: the credentials do not let it be read.
        Unavailable: the store does not answer, or `to` has no room or can't be written.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
        for half in to.glob(f".*{_HALF}"):
            half.unlink()
        there = digests(to)
        if there.get(MANIFEST) == digest and _is_whole(to, there):
            return False
        (to / MANIFEST).unlink(missing_ok=True)
        _bring(bucket, digest, to, there)
    except OSError as failed:
        failed.filename = failed.filename or str(to)
        raise no_room(failed) or Unavailable(f"{failed.filename} can't be written: {failed.strerror}") from failed
    return True


def _is_whole(to: Path, there: dict[str, str]) -> bool:
    listed = parse_manifest((to / MANIFEST).read_bytes(), MANIFEST).files
    return {name: sha for name, sha in there.items() if name not in (MANIFEST, SIGNATURE)} == listed


def _bring(bucket: Bucket, digest: str, to: Path, there: dict[str, str]) -> None:
    data = b"".join(bucket.chunks(MANIFEST, _MAX_MANIFEST_BYTES))
    _compare(f"{bucket.url}/{MANIFEST}", hashlib.sha256(data).hexdigest(), digest, len(data))
    listed = parse_manifest(data, f"{bucket.url}/{MANIFEST}").files
    foreign = sorted(set(there) - set(listed) - {MANIFEST, SIGNATURE})
    if foreign:
        raise IntegrityError(f"{to} holds {foreign[:3]}, which {MANIFEST} does not list: give an empty directory")
    for name, expected in listed.items():
        if there.get(name) != expected:
            _keep(to / name, bucket.chunks(name, MAX_FILE_BYTES), f"{bucket.url}/{name}", expected)
    # To who may not list a bucket, S3 says of what is not there that access is denied. A service that asks for a
    # signature will miss it.
    with contextlib.suppress(DataError, UsageError):
        _keep(to / SIGNATURE, bucket.chunks(SIGNATURE, _MAX_MANIFEST_BYTES), f"{bucket.url}/{SIGNATURE}", None)
    _keep(to / MANIFEST, [data], MANIFEST, digest)


def _keep(path: Path, chunks: Iterator[bytes] | Sequence[bytes], where: str, expected: str | None) -> None:
    half = path.with_name(f".{path.name}{_HALF}")
    found = hashlib.sha256()
    size = 0
    try:
        with half.open("xb") as file:
            for chunk in chunks:
                found.update(chunk)
                size += file.write(chunk)
        if expected is not None:
            _compare(where, found.hexdigest(), expected, size)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def _compare(where: str, found: str, expected: str, size: int) -> None:
    if found != expected:
        raise IntegrityError(
            f"{where} is not the recorded file: sha256 is {found} (of {size} bytes), expected {expected}; "
            "publish the version again"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch; the exit code is 0, or that of the error in `headrace.errors`."""
    options = _parser().parse_args(arguments)
    telemetry.configure()
    began = time.monotonic()
    # Only a store that trickles takes so long, and a call into Arrow can't be left by an exception.
    watch = threading.Timer(options.deadline_s, _give_up, (options.deadline_s,))
    watch.daemon = True
    watch.start()
    try:
        is_new = fetch(Bucket(options.url), options.digest, options.to)
    except HeadraceError as problem:
        _refuse(problem)
        return problem.exit_code
    fields = {"from": options.url, "digest": options.digest, "took_s": round(time.monotonic() - began, 3)}
    _log.info("the model is fetched" if is_new else "the model was there", extra={"fields": fields})
    return 0


def _give_up(deadline_s: float) -> None:
    late = Unavailable(f"it takes more than {deadline_s:g} s: is the store overloaded? --deadline-s gives more time")
    _refuse(late)
    os._exit(late.exit_code)


def _refuse(problem: HeadraceError) -> None:
    _log.error("the model was not fetched", extra={"fields": {"kind": type(problem).__name__, "reason": str(problem)}})


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m serving.fetch", description="Bring a model directory from a bucket.")
    made.add_argument("--from", dest="url", required=True, help="s3://bucket/path of the model directory")
    made.add_argument("--digest", type=_sha256, required=True, help="sha256 of its manifest.json")
    made.add_argument("--to", type=Path, required=True, help="directory to have it in; empty, or with a part of it")
    made.add_argument("--deadline-s", type=float, default=300.0, help="seconds that all of it may take (300)")
    return made


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no sha256: give 64 hexadecimal digits, in small letters")
    return text


if __name__ == "__main__":
    code = main()
    # The end of Arrow's threads takes longer than all the rest.
    sys.stderr.flush()
    os._exit(code)
