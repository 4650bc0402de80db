"""`headrace schedule` on one machine: what it says."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace.cli import cli
from headrace.cli.session import Session
from headrace.errors import UsageError
from headrace.settings import Settings

ROOT = Path(__file__).parents[2]


def run(tmp_path: Path, *arguments: str) -> str:
    said = CliRunner().invoke(cli, ["schedule", *arguments], obj=Session(Settings(ROOT, tmp_path)))
    if said.exception:
        raise said.exception
    return said.output


def test_one_machine_says_what_to_do_instead(tmp_path: Path):
    with pytest.raises(UsageError, match="let cron run `headrace run flight_delay`"):
        run(tmp_path, "set", "flight_delay", "0 30 3 * * *")


def test_a_model_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="nothing_such"):
        run(tmp_path, "set", "nothing_such", "0 30 3 * * *")


def test_a_dry_run_changes_nothing(tmp_path: Path):
    assert "would run at '0 30 3 * * *' (UTC)" in run(tmp_path, "set", "flight_delay", "0 30 3 * * *", "--dry-run")


def test_there_is_nothing_to_list_or_to_remove(tmp_path: Path):
    assert "[]" in run(tmp_path, "list", "--json")
    assert "had no schedule" in run(tmp_path, "remove", "flight_delay")
