"""A version that is fast, sound, and scores as the stable one does, but is wrong: only labels tell."""

import http.client
import itertools
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from headrace.adapters.labelled_log import LabelledLog
from headrace.adapters.local.process_deployer import ProcessDeployer, serving_command
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.split import Split
from headrace.ports import Platform
from tests.contract.conftest import eventually
from tests.faults.house import MODEL, ROOT
from tests.faults.rollouts import answering
from tests.faults.rollouts.platform import Rollouts, back_to
from tests.serving.conftest import make_rows

# Ends by evidence: labels come within seconds.
SHADOW = RolloutStep(shadow_pct=100, min_requests=30, hold_s=60, timeout_s=120)
POLICY = RolloutPolicy(steps=(SHADOW,), interval_s=0.25)


class Client(threading.Thread):
    """Asks about one flight after the other, and says at once what became of it: late, when it was stormy."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        self._over = threading.Event()
        self.answered = Counter[str]()
        self.refused: list[bytes] = []

    def run(self) -> None:
        row = make_rows(1)[0]
        for n in itertools.count():
            if self._over.wait(0.01):
                return
            flight = {"flight_id": f"f{n}"}
            knots = answering.STORM + (1.0 if n % 2 else -1.0)
            self.answered[self._post("predict", {"rows": [row | flight | {"wind_speed": knots}]})] += 1
            self._post("labels", {"labels": [flight | {"late": n % 2}]})

    def stop(self) -> None:
        self._over.set()
        self.join()
        self._connection.close()

    def _post(self, verb: str, said: object) -> str:
        headers = {"content-type": "application/json"}
        self._connection.request("POST", f"/v1/models/{MODEL}/{verb}", json.dumps(said), headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            self.refused.append(body)
        return answer.headers.get("Headrace-Version", "")


@pytest.fixture
def keeping(rollouts: Rollouts, steady: int, tmp_path: Path) -> Iterator[Platform]:
    """With services that keep what they predict in segments of a second; a weathervane that is right is in service."""
    log = str(tmp_path / "log")
    options = ("--prediction-log", log, "--prediction-log-rotate-s", "1")
    house = rollouts.house
    environment = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
    deployer = ProcessDeployer(house.settings, house.processes, partial(serving_command, options=options), environment)
    # As if ten seconds went by between two looks.
    outcomes = LabelledLog(log, itertools.count(step=10).__next__, patience_s=30.0)
    platform = replace(rollouts.platform, deployer=deployer, outcomes=outcomes)
    version = rollouts.register(answering.weathervane(rollouts.trained, tmp_path / "right"))
    deployer.start(version, platform.model_directory(version), timeout_s=60)
    house.router.write(MODEL, Split(version.version), rollouts.route().generation, "for the test")
    yield platform
    back_to(rollouts, steady)


def test_version_that_is_wrong_where_its_scores_look_alike_is_taken_back_by_labels(
    rollouts: Rollouts, keeping: Platform, tmp_path: Path
) -> None:
    stable = rollouts.route().split.stable
    wrong = rollouts.register(answering.weathervane(rollouts.trained, tmp_path / "wrong", right=False))
    client = Client(rollouts.house.url)
    client.start()
    try:
        eventually(lambda: client.answered.total() >= 20)
        done = rollouts.roll_out(wrong, POLICY, keeping)
    finally:
        client.stop()
    assert not done.finished
    assert done.reason.startswith("loss: 81.00 % beside 1.00 %; at least "), done.reason
    assert client.refused == []
    assert set(client.answered) == {str(stable)}
