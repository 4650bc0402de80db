"""One house for the faults that it stands unharmed, and houses of their own for the others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.domain.split import Split
from tests.faults.house import MODEL, House, train

ECHO = "echo"
"""A model of the shared house whose stand-in says what reached it."""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small real model."""
    return train(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[House]:
    """The real service in two versions at 50 % each, and of `ECHO` version 2 beside 1, which has all traffic.

    To be left as it was found.
    """
    made = House(tmp_path_factory.mktemp("house"), trained)
    try:
        made.serve(3, 4)
        made.stand_in(ECHO, 1, 2)
        made.split(MODEL, Split(3, 4, 50))
        made.split(ECHO, Split(1))
        yield made
    finally:
        made.close()
