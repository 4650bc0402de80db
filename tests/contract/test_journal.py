"""The Journal port: the fake, a folder, and objects in a folder or a bucket."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.adapters.cluster.object_store import ObjectStore
from headrace.adapters.local.journal import FolderJournal
from headrace.domain.findings import Finding
from headrace.domain.rollout import Action, Look
from headrace.errors import DataError, Unavailable
from headrace.ports import Journal
from tests.contract.routers import MODEL
from tests.fakes import FakeJournal
from tests.seaweed import Seaweed, seaweed

ROLLOUT = "v4-1700000000.123"


def look(at: float, reason: str = "nothing against it") -> Look:
    findings = (
        Finding("errors", "inconclusive", None, 0.25, 0.0, 1.0, 0.01),
        Finding("scores up to 0.05", "pass", 1 / 3, 0.1 + 0.2, -0.125, 0.0625, 0.1),
    )
    return Look(at, "10 %", "v3 90 %, v4 10 %", 10, Action("hold", reason, findings, (12, 120)))


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real object store."""
    with seaweed(tmp_path_factory.mktemp("store")) as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        yield store


@pytest.fixture(params=["fake", "folder", "objects in a folder", "bucket"])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Journal]:
    """A journal for one more writer or reader of the same records."""
    match request.param:
        case "folder":
            return lambda: FolderJournal(tmp_path / "rollouts")
        case "objects in a folder":
            return lambda: ObjectStore(str(tmp_path))
        case "bucket":
            store = request.getfixturevalue("bucket")
            return lambda: ObjectStore(f"s3://{store.bucket}/{tmp_path.name}", store.endpoint)
    made = FakeJournal()
    return lambda: made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the folder has the looks of the rollout."""
    return tmp_path / "rollouts" / MODEL / f"{ROLLOUT}.jsonl"


def test_unknown_rollout_has_no_looks(another: Callable[[], Journal]) -> None:
    assert list(another().looks(MODEL, ROLLOUT)) == []


def test_looks_come_back_equal_and_in_order(another: Callable[[], Journal]) -> None:
    # Not in the order of their times: a clock may be set back.
    looks = [look(3.5), look(1.7e9 + 1 / 3, "näher — ✓\n{{ x }}\u2028\x85\r\n\"'\\"), look(2.0, "x" * 100_000)]
    for one in looks:
        another().append(MODEL, ROLLOUT, one)
    assert list(another().looks(MODEL, ROLLOUT)) == looks


def test_rollouts_and_models_are_kept_apart(another: Callable[[], Journal]) -> None:
    another().append(MODEL, ROLLOUT, look(1.0))
    another().append(MODEL, "v5-1700000000.123", look(2.0))
    another().append("flight", ROLLOUT, look(3.0))
    assert list(another().looks(MODEL, ROLLOUT)) == [look(1.0)]
    assert list(another().looks(MODEL, "v5-1700000000.123")) == [look(2.0)]
    assert list(another().looks("flight", ROLLOUT)) == [look(3.0)]


def test_two_writers_at_once_lose_nothing_of_each_other(another: Callable[[], Journal]) -> None:
    begin = threading.Barrier(2)

    def write(first: int) -> None:
        journal = another()
        begin.wait()
        for n in range(100):
            journal.append(MODEL, ROLLOUT, look(first + n, "x" * 10_000))

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 1000)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = [one.at for one in another().looks(MODEL, ROLLOUT)]
    assert len(found) == 200
    assert [at for at in found if at < 1000] == list(range(100))
    assert [at for at in found if at >= 1000] == list(range(1000, 1100))


@pytest.mark.parametrize("kept", [1, 30, -2])
def test_line_that_was_cut_off_is_left_out_and_takes_no_other_with_it(tmp_path: Path, file: Path, kept: int) -> None:
    journal = FolderJournal(tmp_path / "rollouts")
    journal.append(MODEL, ROLLOUT, look(1.0))
    line = file.read_bytes()
    file.write_bytes(line + line[:kept])
    assert list(journal.looks(MODEL, ROLLOUT)) == [look(1.0)]
    journal.append(MODEL, ROLLOUT, look(3.0))
    assert list(journal.looks(MODEL, ROLLOUT)) == [look(1.0), look(3.0)]


def test_line_that_lacks_only_its_end_is_a_look(tmp_path: Path, file: Path) -> None:
    journal = FolderJournal(tmp_path / "rollouts")
    journal.append(MODEL, ROLLOUT, look(1.0))
    file.write_bytes(file.read_bytes().removesuffix(b"\n"))
    journal.append(MODEL, ROLLOUT, look(3.0))
    assert list(journal.looks(MODEL, ROLLOUT)) == [look(1.0), look(3.0)]


def test_line_that_is_no_look_is_an_error_that_names_the_file(tmp_path: Path, file: Path) -> None:
    journal = FolderJournal(tmp_path / "rollouts")
    journal.append(MODEL, ROLLOUT, look(1.0))
    for line in ('{"at": 1.0}', "3", file.read_text().replace('"new_pct"', '"newer"').strip()):
        file.write_text(f"{line}\n")
        with pytest.raises(DataError, match=r"v4-1700000000\.123\.jsonl"):
            journal.looks(MODEL, ROLLOUT)


def test_folder_that_cant_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "rollouts").write_text("no folder")
    with pytest.raises(Unavailable, match="can't be written"):
        FolderJournal(tmp_path / "rollouts").append(MODEL, ROLLOUT, look(1.0))
