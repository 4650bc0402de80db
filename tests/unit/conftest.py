"""What tests of rollouts begin with."""

from pathlib import Path

import pytest

from tests.unit.rollout_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Without a version yet."""
    return World(tmp_path)


@pytest.fixture
def serving(world: World) -> World:
    """With version 1 in service."""
    assert world.deploy(world.register()).finished
    return world
