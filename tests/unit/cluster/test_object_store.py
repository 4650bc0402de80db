"""Model directories and looks in a real object store, and in one that gives no access."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs
import pytest

from headrace.adapters.cluster.object_store import ObjectStore
from headrace.domain.rollout import Action, Look
from headrace.errors import DataError, IntegrityError, Unavailable
from tests import fakes
from tests.conftest import free_ports
from tests.seaweed import Seaweed, seaweed

MODEL = "flight_delay"
VERSION = fakes.model_version(3)
LOOK = Look(1.0, "10 %", "v3 90 %, v4 10 %", 10, Action("hold", "too few", (), (12, 120)))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("store")) as one:
        yield one


@pytest.fixture
def store(running: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Seaweed:
    """One that the environment gives access to."""
    for name, value in running.env.items():
        monkeypatch.setenv(name, value)
    return running


@pytest.fixture
def url(store: Seaweed, tmp_path: Path) -> str:
    """A place in it of the test's own."""
    return f"s3://{store.bucket}/{tmp_path.name}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return fakes.model_directory(tmp_path / "made", MODEL, 3, weights="w" * 100_000)


class Recording(ObjectStore):
    """Remembers what it writes; what `fails` names is not written."""

    def __init__(self, url: str, endpoint: str, fails: str = "nothing") -> None:
        super().__init__(url, endpoint)
        self.written: list[str] = []
        self.fails = fails

    def _write(self, name: str, data: bytes) -> None:
        if name.endswith(self.fails):
            raise Unavailable("the connection broke")
        super()._write(name, data)
        self.written.append(name.rsplit("/", 1)[-1])


def listed(store: Seaweed, url: str) -> dict[str, bytes]:
    """Name to content of what is below a URL."""
    files = store.files()
    infos = files.get_file_info(pyarrow.fs.FileSelector(url.removeprefix("s3://"), allow_not_found=True))
    return {info.base_name: files.open_input_stream(info.path).read() for info in infos if info.is_file}


def test_version_is_published_under_its_digest_and_whole(store: Seaweed, url: str, directory: Path):
    digest = hashlib.sha256((directory / "manifest.json").read_bytes()).hexdigest()
    published = ObjectStore(f"{url}/", store.endpoint).publish(VERSION, directory)
    assert published == (f"{url}/models/{MODEL}/3-{digest[:12]}", digest)
    assert listed(store, published.url) == {one.name: one.read_bytes() for one in directory.iterdir()}


def test_manifest_is_written_last_and_a_second_time_nothing_is(store: Seaweed, url: str, directory: Path):
    first, second = Recording(url, store.endpoint), Recording(url, store.endpoint)
    published = first.publish(VERSION, directory)
    assert sorted(first.written) == sorted(one.name for one in directory.iterdir())
    assert first.written[-1] == "manifest.json"
    assert second.publish(VERSION, directory) == published
    assert second.written == []


def test_half_of_a_version_is_none_and_is_completed(store: Seaweed, url: str, directory: Path):
    with pytest.raises(Unavailable):
        Recording(url, store.endpoint, fails="manifest.json").publish(VERSION, directory)
    published = ObjectStore(url, store.endpoint).publish(VERSION, directory)
    assert listed(store, published.url) == {one.name: one.read_bytes() for one in directory.iterdir()}


def test_another_content_of_the_same_version_is_published_beside_it(
    store: Seaweed, url: str, directory: Path, tmp_path: Path
):
    other = fakes.model_directory(tmp_path / "other", MODEL, 3, weights="other")
    assert (
        ObjectStore(url, store.endpoint).publish(VERSION, directory).url
        != ObjectStore(url, store.endpoint).publish(VERSION, other).url
    )


def test_directory_without_a_manifest_is_refused(store: Seaweed, url: str, tmp_path: Path):
    with pytest.raises(IntegrityError, match=r"manifest\.json can't be read: .*; fetch the version again"):
        ObjectStore(url, store.endpoint).publish(VERSION, tmp_path)


def refused(url: str, endpoint: str, directory: Path) -> None:
    """Nothing can be written or read, and the message says where and what to look at."""
    said = f"{url} can't be (read|written): .*AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    with pytest.raises(Unavailable, match=f"(?s){said}"):
        ObjectStore(url, endpoint).publish(VERSION, directory)
    with pytest.raises(Unavailable, match=f"(?s){said}"):
        ObjectStore(url, endpoint).append(MODEL, "v3-1", LOOK)


def test_wrong_key_is_told(store: Seaweed, url: str, directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    refused(url, store.endpoint, directory)
    with pytest.raises(Unavailable, match="can't be read"):
        ObjectStore(url, store.endpoint).looks(MODEL, "v3-1")


def test_endpoint_where_nobody_answers_is_told(url: str, directory: Path):
    refused(url, f"http://127.0.0.1:{free_ports(1)[0]}", directory)


def test_object_that_is_no_look_is_an_error_that_names_it(store: Seaweed, url: str):
    journal = ObjectStore(url, store.endpoint)
    journal.append(MODEL, "v3-1", LOOK)
    for text in (b"{", b"3", b'{"at": 1.0}'):
        journal._write(f"rollouts/{MODEL}/v3-1/1.json", text)
        with pytest.raises(DataError, match="v3-1"):
            ObjectStore(url, store.endpoint).looks(MODEL, "v3-1")
