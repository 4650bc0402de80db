"""What a data store does: it makes what is not there or out of date, and says what it has by hash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.adapters.dvc_store import DvcStore
from headrace.errors import Conflict, DataError, UsageError
from headrace.settings import Settings
from tests.seaweed import seaweed

STAGE = "models/tiny/dvc.yaml"
STAGES = """\
stages:
  numbers:
    wdir: ../..
    cmd: python models/tiny/data.py data/numbers
    deps: [models/tiny/data.py]
    outs: [data/numbers]
"""
# Every run leaves a mark outside of what DVC knows.
PROGRAM = """\
import pathlib, sys
out = pathlib.Path(sys.argv[1]); out.mkdir(parents=True)
(out / "one.txt").write_text({content!r})
with open("runs.txt", "a") as runs: runs.write(sys.executable + "\\n")
"""
CONFIG = "[core]\n    analytics = false\n    remote = local\n['remote \"local\"']\n    url = ../remote\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


def make_project(root: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(root)], check=True)  # noqa: S607 - git is where it is
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text(CONFIG)
    (root / "models" / "tiny").mkdir(parents=True)
    (root / STAGE).write_text(STAGES)
    write(root, "first")
    return root


def write(project: Path, content: str) -> None:
    (project / "models" / "tiny" / "data.py").write_text(PROGRAM.format(content=content))


def store(project: Path, data_remote: str = "") -> DvcStore:
    return DvcStore(Settings(root=project, home=project / "home", data_remote=data_remote))


def runs(project: Path) -> list[str]:
    return (project / "runs.txt").read_text().splitlines()


def test_a_second_call_does_nothing_and_a_changed_program_runs_again(project: Path) -> None:
    data = store(project)
    first = data.bring(STAGE)
    assert list(first) == ["data/numbers"]
    assert data.bring(STAGE) == first
    assert len(runs(project)) == 1
    write(project, "second")
    second = data.bring(STAGE)
    assert second.keys() == first.keys()
    assert second != first
    assert len(runs(project)) == 2
    write(project, "first")
    assert data.bring(STAGE) == first


def test_a_stage_runs_with_this_python(project: Path) -> None:
    store(project).bring(STAGE)
    assert Path(runs(project)[0]).parent == Path(sys.executable).parent


def test_a_project_outside_git_works_too(project: Path) -> None:
    shutil.rmtree(project / ".git")
    data = store(project)
    assert data.bring(STAGE) == data.bring(STAGE)
    assert len(runs(project)) == 1


def test_outputs_that_were_removed_come_back(project: Path) -> None:
    data = store(project)
    data.bring(STAGE)
    (project / "data" / "numbers" / "one.txt").unlink()
    data.bring(STAGE)
    assert (project / "data" / "numbers" / "one.txt").read_text() == "first"


def test_what_is_made_is_pushed_to_the_remote_once(project: Path) -> None:
    data = store(project)
    data.bring(STAGE)
    pushed = sorted((project / "remote").rglob("*"))
    assert [path.read_text() for path in pushed if path.is_file()].count("first") == 1
    record = (project / "home" / "dvc" / "pushed.json").stat().st_mtime_ns
    data.bring(STAGE)
    assert (project / "home" / "dvc" / "pushed.json").stat().st_mtime_ns == record


def test_another_remote_is_used_while_the_setting_says_so(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    store(project, str(other)).bring(STAGE)
    assert other.is_dir()
    assert not (project / "remote").exists()
    store(project).bring(STAGE)
    assert (project / "remote").is_dir()
    assert "override" not in (project / ".dvc" / "config.local").read_text()


def test_a_failing_stage_says_its_own_last_words(project: Path) -> None:
    (project / "models" / "tiny" / "data.py").write_text(
        "import sys; print('the source has 3 columns, expected are 4', file=sys.stderr); sys.exit(3)"
    )
    with pytest.raises(DataError, match=rf"(?s){STAGE} failed:.*the source has 3 columns.*exited with 3"):
        store(project).bring(STAGE)


def test_a_stage_file_that_is_not_there_is_said(project: Path) -> None:
    with pytest.raises(DataError, match=r"models/none/dvc.yaml' does not exist"):
        store(project).bring("models/none/dvc.yaml")


def test_data_that_another_process_works_on_is_a_conflict(project: Path) -> None:
    ready = project / "ready"
    holder = f"""
import pathlib, sys
from dvc.repo import Repo
from dvc.rwlock import rwlock
repo = Repo({str(project)!r})
with rwlock(repo.tmp_dir, repo.fs, "a test", [], [{str(project / "data" / "numbers")!r}], False):
    pathlib.Path({str(ready)!r}).touch()
    sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, cwd=project)
    try:
        while not ready.exists():
            assert process.poll() is None
        with pytest.raises(Conflict, match="is being blocked by"):
            store(project).bring(STAGE)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def test_s3_without_its_package_says_what_to_install(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # find_spec finds none for it.
    monkeypatch.setitem(sys.modules, "dvc_s3", None)
    with pytest.raises(UsageError, match="needs the package dvc-s3: install headrace with its extra `s3`"):
        store(project, "s3://bucket/path").bring(STAGE)


def test_data_in_s3_can_be_had_again_by_another_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "first")
    with seaweed(tmp_path / "store") as bucket:
        for name, value in bucket.env.items():
            monkeypatch.setenv(name, value)
        data = store(project, f"s3://{bucket.bucket}/data")
        hashes = data.bring(STAGE)
        copy = make_project(tmp_path / "second")
        shutil.copy(project / "models" / "tiny" / "dvc.lock", copy / "models" / "tiny" / "dvc.lock")
        shutil.copy(project / ".dvc" / "config.local", copy / ".dvc" / "config.local")
        command = [sys.executable, "-m", "dvc", "pull", STAGE]
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
        subprocess.run(command, cwd=copy, env=environment, check=True)
        assert (copy / "data" / "numbers" / "one.txt").read_text() == "first"
        assert not (copy / "runs.txt").exists()
        # What is there already is not made again.
        assert store(copy, f"s3://{bucket.bucket}/data").bring(STAGE) == hashes
        assert not (copy / "runs.txt").exists()
    assert not (project / "remote").exists()
