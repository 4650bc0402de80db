"""A proxy that dies comes back with what was last written, whatever happened to its files."""

from collections.abc import Iterator

import pytest

from headrace.adapters.local import traefik
from tests.contract.conftest import eventually
from tests.contract.traffic import client, post
from tests.faults.conftest import ECHO
from tests.faults.house import MODEL, House


@pytest.fixture
def broken(house: House) -> Iterator[House]:
    """With half a file for `ECHO`."""
    path = traefik.dynamic_folder(house.settings) / f"{ECHO}.yml"
    whole = path.read_text()
    half = path.with_suffix(".half")
    half.write_text(whole[:700])
    half.replace(path)
    yield house
    path.write_text(whole)


def test_killed_proxy_with_half_a_file_beside_it_answers_for_every_model(broken: House) -> None:
    before = broken.process(traefik.NAME)
    assert before
    assert "says no weights" in (broken.router.drifted(ECHO) or "")
    before.kill()

    def answers(model: str, body: bytes) -> bool:
        try:
            with client(broken.url) as connection:
                return post(connection, model, body)[0] == 200
        except OSError:
            return False

    eventually(lambda: answers(ECHO, b"{}"))
    eventually(lambda: answers(MODEL, broken.body))
    after = broken.process(traefik.NAME)
    assert after
    assert after.pid != before.pid
    assert after.name() == "traefik"
    assert broken.router.drifted(ECHO) is None
    log = broken.processes.log_tail(traefik.NAME, line_count=200)
    assert any("echo.yml was changed by hand: put back as generation 1" in line for line in log)
