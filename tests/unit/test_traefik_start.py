"""What is put right before Traefik starts, and what is left as it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.adapters.local import locks, traefik_start
from headrace.adapters.local.traefik_route import render
from headrace.domain.evidence import Expected
from headrace.domain.rollout import begin
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.split import Split
from headrace.ports import Route

URLS = {3: "http://127.0.0.1:1", 4: "http://127.0.0.1:2"}


def text(generation: int, pct: int = 10) -> str:
    return render(Route("flight", Split(3, 4, pct), generation), URLS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of Traefik's configuration, with generation 5 written."""
    for name in (traefik_start.DYNAMIC, traefik_start.WRITTEN):
        (tmp_path / name).mkdir()
        (tmp_path / name / "flight.yml").write_text(text(5))
    return tmp_path


def started(folder: Path) -> str:
    traefik_start.put_back(str(folder))
    return (folder / "dynamic" / "flight.yml").read_text()


@pytest.mark.parametrize(
    "broken",
    ["", "http: [", text(5)[:300], text(5)[:20], text(5, pct=50), text(4), "\0", text(5).replace("weight", "weigth")],
)
def test_changed_file_is_what_was_written_again(folder: Path, capsys: pytest.CaptureFixture[str], broken: str):
    (folder / "dynamic" / "flight.yml").write_text(broken)
    assert started(folder) == text(5)
    assert "flight.yml was changed by hand: put back as generation 5" in capsys.readouterr().err
    assert [path.name for path in (folder / "dynamic").iterdir()] == ["flight.yml"]


def test_mirror_and_the_state_of_a_rollout_are_put_back_as_well(folder: Path):
    policy = RolloutPolicy((RolloutStep(shadow_pct=100),))
    state = begin(4, policy, Expected(0.05, scores={0.5: 0.1}), 1.5, (None, None))
    written = render(Route("flight", Split(3, shadow=4, shadow_pct=100), 6, "it begins — {{ x }}", state), URLS)
    (folder / "written" / "flight.yml").write_text(written, encoding="utf-8")
    for broken in (written.replace('"service": "flight-mirrored"', '"service": "flight"'), written[:200]):
        assert broken != written
        (folder / "dynamic" / "flight.yml").write_text(broken, encoding="utf-8")
        assert started(folder) == written


def test_unchanged_file_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]):
    before = (folder / "dynamic" / "flight.yml").stat()
    assert started(folder) == text(5)
    assert (folder / "dynamic" / "flight.yml").stat() == before
    assert capsys.readouterr().err == ""


def test_newer_file_than_the_copy_stays(folder: Path):
    (folder / "dynamic" / "flight.yml").write_text(text(6, pct=50))
    assert started(folder) == text(6, pct=50)


def test_route_that_was_taken_away_stays_away(folder: Path):
    (folder / "dynamic" / "flight.yml").unlink()
    traefik_start.put_back(str(folder))
    assert not (folder / "dynamic" / "flight.yml").exists()


def test_file_of_nobody_elses_is_left_alone(folder: Path):
    (folder / "dynamic" / "other.yml").write_text("http: [")
    traefik_start.put_back(str(folder))
    assert (folder / "dynamic" / "other.yml").read_text() == "http: ["


def test_write_that_is_under_way_is_neither_disturbed_nor_waited_for(folder: Path):
    (folder / "dynamic" / "flight.yml").write_text(text(4))
    with locks.held(folder / "flight.lock", 0):
        assert started(folder) == text(4)


def test_one_file_that_cant_be_put_right_stops_neither_the_others_nor_the_start(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    (folder / "dynamic" / "bikes.yml").mkdir()
    (folder / "written" / "bikes.yml").write_text("x")
    (folder / "dynamic" / "flight.yml").write_text("")
    assert started(folder) == text(5)
    assert "bikes.yml can't be put right" in capsys.readouterr().err


def test_script_becomes_the_command_even_without_a_folder(tmp_path: Path):
    command = [sys.executable, "-I", "-S", traefik_start.__file__]
    said = subprocess.run([*command, "/bin/echo", "hello"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout == "hello\n"
    missing = subprocess.run([*command, "./traefik"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert missing.returncode == 127
    assert "./traefik can't be started" in missing.stderr
