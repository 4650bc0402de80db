"""What the init container brings: the directory that was released, or nothing that could be taken for it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem, copy_files

from headrace.errors import IntegrityError, Unavailable
from serving.fetch import Bucket, fetch
from tests import fakes
from tests.seaweed import Seaweed, seaweed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A model directory where it was published."""
    return fakes.model_directory(tmp_path / "published", "flight_delay", 3)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    """Where it has to come."""
    return tmp_path / "model"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real object store."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


def digest(directory: Path) -> str:
    return hashlib.sha256((directory / "manifest.json").read_bytes()).hexdigest()


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def bucket(url: str | Path) -> Bucket:
    return Bucket(str(url), pause=lambda seconds: None)


def test_directory_comes_whole_and_a_second_time_nothing_is_done(released: Path, to: Path) -> None:
    assert fetch(bucket(released), digest(released), to)
    assert content(to) == content(released)
    assert not fetch(bucket("/nowhere"), digest(released), to)


def test_manifest_of_another_release_is_refused_before_it_is_read(released: Path, to: Path) -> None:
    expected = digest(released)
    (released / "manifest.json").write_text("{")
    with pytest.raises(IntegrityError, match=f"but {expected} was released"):
        fetch(bucket(released), expected, to)
    assert not (to / "manifest.json").exists()


@pytest.mark.parametrize("spoil", ["changed", "truncated", "missing"])
def test_file_that_is_not_the_listed_one_leaves_no_model(released: Path, to: Path, spoil: str) -> None:
    file = released / "release.json"
    data = file.read_bytes()
    if spoil == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if spoil == "truncated" else data.replace(b"3", b"4"))
    with pytest.raises(IntegrityError, match=r"release\.json"):
        fetch(bucket(released), digest(released), to)
    assert not (to / "manifest.json").exists()


def test_directory_that_was_spoilt_is_fetched_anew(released: Path, to: Path) -> None:
    fetch(bucket(released), digest(released), to)
    (to / "release.json").write_text("{}")
    assert fetch(bucket(released), digest(released), to)
    assert content(to) == content(released)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", ".hidden", "manifest.json", ""])
def test_manifest_that_lists_a_path_is_refused(released: Path, to: Path, name: str) -> None:
    manifest = json.loads((released / "manifest.json").read_text())
    manifest["files"][name] = "0" * 64
    (released / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError):
        fetch(bucket(released), digest(released), to)
    assert not (to.parent / "outside").exists()


def test_signature_comes_along(released: Path, to: Path) -> None:
    (released / "model.sig").write_text("{}")
    fetch(bucket(released), digest(released), to)
    assert (to / "model.sig").exists()


def test_folder_that_can_not_be_written_is_said(released: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((Unavailable, OSError)):
        fetch(bucket(released), digest(released), tmp_path / "file")


def run(url: str, digest: str, to: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.fetch", "--from", url, "--digest", digest, "--to", str(to)]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=to.parent)


def test_program_fetches_from_s3_and_says_what_is_wrong(released: Path, to: Path, store: Seaweed) -> None:
    copy_files(
        str(released),
        f"{store.bucket}/models/3",
        source_filesystem=LocalFileSystem(),
        destination_filesystem=store.files(),
    )
    url = f"s3://{store.bucket}/models/3"
    done = run(url, digest(released), to, store.env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr)["event"] == "the model is fetched"
    assert content(to) == content(released)
    gone = run(f"{url}-gone", digest(released), to.with_name("other"), store.env)
    assert gone.returncode == IntegrityError.exit_code
    assert "manifest.json is not in the bucket" in json.loads(gone.stderr)["error"]
    stranger = {**store.env, "AWS_SECRET_ACCESS_KEY": "planted-secret"}
    refused = run(url, digest(released), to.with_name("other"), stranger)
    assert refused.returncode == Unavailable.exit_code
    assert "can't be read" in refused.stderr
    assert "planted-secret" not in refused.stderr
    nobody = run(url, digest(released), to.with_name("other"), {**store.env, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert nobody.returncode == Unavailable.exit_code
