"""`headrace rollout start`, on a platform of fakes."""

from pathlib import Path

import pytest

from headrace.cli import cli
from headrace.errors import DataError
from tests.unit.test_cli_rollout import MODEL, House

# The policy of the project would take minutes.
SHORT = ("rollout.interval_s=0.01", "rollout.steps=[{weight_pct:10,min_requests:5,hold_s:0,timeout_s:2}]")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_registered_version_is_rolled_out_and_seen_through(house: House):
    assert f"v2 of {MODEL} has all traffic" in house.said("rollout", "start", MODEL, *SHORT, "--version", "2")
    assert (house.route.split.stable, house.route.split.previous) == (2, 1)
    assert house.registry.alias(MODEL, "champion") == 2


def test_version_that_is_not_registered_is_refused(house: House):
    before = house.route
    done = house.run("rollout", "start", MODEL, "--version", "9")
    assert isinstance(done.exception, DataError)
    assert "flight_delay has no version 9" in str(done.exception)
    assert house.route == before


def test_policy_that_is_none_is_refused_before_anything_is_started(house: House):
    before = house.route
    assert "intervall_s" in house.refused("rollout", "start", MODEL, "rollout.intervall_s=1", "--version", "2")
    assert house.route == before


def test_version_has_to_be_named(house: House):
    assert "--version" in house.invoked.invoke(cli, ["rollout", "start", MODEL], obj=house.session).output
