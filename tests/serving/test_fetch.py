"""What the init container brings: the directory that was released, or nothing that could be taken for it."""

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import DataError, IntegrityError, Unavailable, UsageError
from serving.loading import load
from tests.seaweed import SECRET, Seaweed, seaweed
from tests.serving.logged import small_disk

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60


class Refused(Exception):
    """It ended with another exit code than 0."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real object store."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


class Place:
    """A folder in the bucket, and how to fetch it."""

    def __init__(self, store: Seaweed, prefix: str, to: Path) -> None:
        self.store, self.to = store, to
        self.url = f"s3://{store.bucket}/{prefix}"
        self.digest = ""
        self._root = f"{store.bucket}/{prefix}"

    def put(self, name: str, data: bytes) -> None:
        with self.store.files().open_output_stream(f"{self._root}/{name}", compression=None) as file:
            file.write(data)

    def remove(self, name: str) -> None:
        self.store.files().delete_file(f"{self._root}/{name}")

    def publish(self, directory: Path) -> None:
        for path in directory.iterdir():
            self.put(path.name, path.read_bytes())
        self.digest = hashlib.sha256((directory / "manifest.json").read_bytes()).hexdigest()

    def fetch(self, *options: str, url: str = "", digest: str = "", **environment: str) -> dict[str, Any]:
        """What it logs. Raises Refused, with the only line that it says."""
        command = [sys.executable, "-m", "serving.fetch", "--from", url or self.url, "--to", str(self.to)]
        done = subprocess.run(
            [*command, "--digest", digest or self.digest, *options],
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", **self.store.env, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        (line,) = done.stderr.splitlines()
        said = json.loads(line)
        assert SECRET not in line
        if done.returncode:
            assert said["level"] == "error"
            raise Refused(done.returncode, said["reason"])
        return said


@pytest.fixture
def place(store: Seaweed, directory: Path, tmp_path: Path) -> Place:
    """A model directory that is published, and a place to have it in."""
    made = Place(store, f"models/{tmp_path.name}", tmp_path / "fetched")
    made.publish(directory)
    return made


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def refusal(place: Place, error: type[Exception], *options: str, **changes: str) -> str:
    """Why it is refused; what is there then is no model."""
    with pytest.raises(Refused) as refused:
        place.fetch(*options, **changes)
    assert refused.value.code == error.exit_code, refused.value
    assert not (place.to / "manifest.json").exists()
    assert not list(place.to.glob(".*")) if place.to.is_dir() else True
    return str(refused.value)


def test_what_was_published_comes_and_can_be_served(place: Place, directory: Path) -> None:
    assert place.fetch()["event"] == "the model is fetched"
    assert content(place.to) == content(directory)
    assert load(place.to).name == "flight_delay"


def test_what_is_there_and_whole_needs_no_store(place: Place) -> None:
    place.fetch()
    assert place.fetch(AWS_ENDPOINT_URL="http://127.0.0.1:9")["event"] == "the model was there"


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", ".model.onnx.part"])
def test_half_a_directory_is_made_whole(place: Place, directory: Path, name: str) -> None:
    place.fetch()
    (place.to / name).write_bytes(b"half")
    place.fetch()
    assert content(place.to) == content(directory)


def test_signature_comes_along(place: Place) -> None:
    place.put("model.sig", b"signature")
    place.fetch()
    assert (place.to / "model.sig").read_bytes() == b"signature"


def test_file_with_a_name_of_an_archive_comes_as_it_is(
    place: Place, directory: Path, seal: Callable[[Path], None]
) -> None:
    (directory / "rows.gz").write_bytes(b"no archive at all")
    seal(directory)
    place.publish(directory)
    place.fetch()
    assert (place.to / "rows.gz").read_bytes() == b"no archive at all"


def test_other_manifest_is_refused_before_it_is_parsed(place: Place) -> None:
    place.put("manifest.json", b"{ no JSON")
    said = refusal(place, IntegrityError)
    assert f"{place.url}/manifest.json is not the recorded file" in said
    assert place.digest in said


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data[:1] + b"\0" + data[2:], lambda data: b""])
def test_truncated_or_changed_file_is_refused(place: Place, directory: Path, spoil: Callable[[bytes], bytes]) -> None:
    data = spoil((directory / "model.onnx").read_bytes())
    place.put("model.onnx", data)
    said = refusal(place, IntegrityError)
    assert f"{place.url}/model.onnx is not the recorded file" in said
    assert f"of {len(data)} bytes" in said


def test_missing_file_manifest_and_bucket_are_told_apart(place: Place) -> None:
    place.remove("golden.json")
    assert f"{place.url}/golden.json is not there" in refusal(place, DataError)
    place.remove("manifest.json")
    assert f"{place.url}/manifest.json is not there, at {place.store.endpoint}" in refusal(place, DataError)
    assert "bucket elsewhere is not there" in refusal(place, DataError, url="s3://elsewhere/models/1")


@pytest.mark.parametrize(
    "credentials", [{"AWS_SECRET_ACCESS_KEY": "planted-secret"}, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}]
)
def test_wrong_and_missing_credentials_are_said_and_not_repeated(place: Place, credentials: dict[str, str]) -> None:
    said = refusal(place, UsageError, **credentials)
    assert "may not be read with these credentials" in said
    assert "store.secret" in said
    assert "planted" not in said


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/b", ".hidden", "manifest.json", ""])
def test_manifest_that_lists_a_path_is_refused(place: Place, directory: Path, name: str) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"][name] = "0" * 64
    data = json.dumps(manifest).encode()
    place.put("manifest.json", data)
    assert "is not the name of a file" in refusal(place, IntegrityError, digest=hashlib.sha256(data).hexdigest())
    assert list(place.to.iterdir()) == []


def test_directory_with_something_else_in_it_is_refused(place: Place) -> None:
    place.to.mkdir()
    (place.to / "diary").write_text("mine")
    assert "holds ['diary'], which manifest.json does not list" in refusal(place, IntegrityError)
    assert (place.to / "diary").read_text() == "mine"


def test_link_in_the_directory_is_not_followed(place: Place, tmp_path: Path) -> None:
    place.to.mkdir()
    (place.to / "model.onnx").symlink_to(tmp_path / "outside")
    assert "is a symbolic link" in refusal(place, IntegrityError)
    assert not (tmp_path / "outside").exists()


def test_place_that_is_no_directory_is_said(place: Place) -> None:
    place.to.write_text("a file")
    assert f"{place.to} can't be written: File exists" in refusal(place, Unavailable)


def test_full_disk_is_said_and_leaves_room(place: Place, tmp_path: Path) -> None:
    place.put("model.sig", bytes(512 * 1024))
    with small_disk(place.to, "64k"):
        assert f"no room left on the disk for {place.to}" in refusal(place, Unavailable)


@pytest.mark.parametrize(
    "url",
    ["/srv/model", "file:///model", "s3://bucket", "s3://bucket/a/../b", "s3://bucket/a?endpoint_override=x",
     "s3://bucket/%2e%2e/a", "s3://bucket//a", "s3://key:planted@bucket/a", "http://store/bucket/a"],
)  # fmt: skip
def test_place_that_is_none_is_refused_at_once(place: Place, url: str) -> None:
    said = refusal(place, UsageError, url=url)
    assert "give s3://bucket/path" in said
    assert "planted" not in said


def test_digest_that_is_none_is_a_usage_error(place: Place) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving.fetch", "--from", place.url, "--to", str(place.to), "--digest", "abc"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == UsageError.exit_code
    assert "'abc' is no sha256: give 64 hexadecimal digits" in done.stderr


def test_store_that_refuses_connections_is_given_up_with_its_address(place: Place) -> None:
    said = refusal(place, Unavailable, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert "manifest.json can't be read: NETWORK_CONNECTION" in said
    assert "is http://127.0.0.1:9 the store's address" in said


def test_store_that_never_answers_is_given_up_at_the_deadline(place: Place) -> None:
    assert place.store.process is not None
    place.store.process.send_signal(signal.SIGSTOP)
    try:
        assert "it takes more than 2 s" in refusal(place, Unavailable, "--deadline-s=2")
    finally:
        place.store.process.send_signal(signal.SIGCONT)


@contextmanager
def failing(status: int, length: int, body: bytes) -> Iterator[str]:
    """Something in the store's place that gives every object that status, and not all of that length; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "length", "body"), [(500, 5, b"sorry"), (200, 1000, b"half of it")])
def test_store_that_fails_or_breaks_off_is_unavailable(place: Place, status: int, length: int, body: bytes) -> None:
    with failing(status, length, body) as endpoint:
        assert "manifest.json can't be read" in refusal(place, Unavailable, AWS_ENDPOINT_URL=endpoint)


def test_file_that_is_larger_than_any_is_not_read_to_its_end(place: Place) -> None:
    place.put("manifest.json", bytes(2 * 1024 * 1024))
    assert "manifest.json has more than 1048576 bytes" in refusal(place, IntegrityError)
