"""A project in an image that can't be written becomes one that can."""

import os
from pathlib import Path

import pytest

from headrace.adapters.cluster import workspace
from headrace.adapters.source_tree import BUILT_FROM, code_version
from headrace.errors import UsageError
from headrace.settings import Settings

NEVER_COPIED = ("data/flights/2013.parquet", ".git/HEAD", "src/headrace/domain/__pycache__/a.pyc")


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    root = tmp_path / "opt"
    for name in ("models/m/dvc.yaml", "conf/m.yaml", ".dvc/config", "data/.gitignore", BUILT_FROM, *NEVER_COPIED):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / BUILT_FROM).write_text("abc-dirty\n")
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for name in ("HOME", "LOGNAME", "MPLCONFIGDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "/")
    return Settings(root, tmp_path / "home", context="cluster")


def test_the_project_is_copied_and_can_be_written(image: Settings):
    own = workspace.own(image)
    assert own.root == image.home / "project"
    # The modes, because a root that runs the tests may write anything.
    assert all(path.stat().st_mode & 0o200 for path in (own.root, *own.root.rglob("*")))
    assert (own.root / "data" / ".gitignore").is_file()
    assert not [name for name in NEVER_COPIED if (own.root / name).exists()]


def test_a_second_step_in_the_same_home_does_the_same(image: Settings):
    workspace.own(image)
    assert (workspace.own(image).root / "models" / "m" / "dvc.yaml").read_text() == "models/m/dvc.yaml"


def test_libraries_find_a_home_that_can_be_written(image: Settings):
    workspace.own(image)
    assert Path(os.environ["HOME"]).is_relative_to(image.home)


def test_the_code_is_what_the_image_was_built_from(image: Settings):
    own = workspace.own(image)
    version = code_version(own.root, "m")
    assert (version.commit, version.dirty) == ("abc", True)
    assert version.content == code_version(image.root, "m").content


def test_a_home_inside_the_image_is_refused(image: Settings):
    with pytest.raises(UsageError, match=r"HEADRACE_HOME=.* is inside the project .*/tmp/headrace"):
        workspace.own(Settings(image.root, image.root / ".headrace", context="cluster"))


def test_a_home_that_cannot_be_made_is_said(image: Settings):
    (image.home).write_text("a file")
    with pytest.raises(UsageError, match=r"can't be written .*emptyDir"):
        workspace.own(image)
