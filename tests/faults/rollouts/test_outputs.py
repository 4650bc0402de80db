"""Fault 32: a model that answers what is no prediction, where its proof did not look: told, counted, and taken back."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace import telemetry
from headrace.adapters.local import loopback
from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.errors import Unavailable
from tests.contract.conftest import eventually
from tests.contract.traffic import Traffic, client
from tests.faults.house import MODEL
from tests.faults.rollouts import answering, between
from tests.faults.rollouts.platform import Rollouts
from tests.serving import oip

CANARY_PCT = 5
POLICY = RolloutPolicy(steps=(RolloutStep(CANARY_PCT, min_requests=30, timeout_s=60),), interval_s=0.25)


@pytest.fixture(scope="module")
def version(rollouts: Rollouts, tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    """A registered version of such a model, not in service."""
    folder = tmp_path_factory.mktemp("odd")
    return rollouts.register(answering.directory(rollouts.trained, folder / "model"))


class Pinned:
    """One version that runs and is asked through the proxy by its number."""

    def __init__(self, rollouts: Rollouts, version: ModelVersion) -> None:
        self._url = rollouts.house.url
        self._number = version.version
        directory = rollouts.platform.model_directory(version)
        self._endpoint = rollouts.deployer.start(version, directory, timeout_s=60)
        route = rollouts.route()
        # Written anew, for what runs now.
        rollouts.house.router.write(MODEL, route.split, route.generation, "one more runs")

    def ask(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, str | None]:
        """Status, body and the length of its JSON, where other data comes after that."""
        pinned = {"Headrace-Version": str(self._number), "Content-Type": "application/json", **headers}
        with client(self._url) as connection:
            connection.request("POST", path, body, pinned)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheader("Inference-Header-Content-Length")

    def rows(self, *answers: float) -> tuple[int, dict]:
        """By the rows API."""
        status, body, _ = self.ask(f"/v1/models/{MODEL}/predict", answering.body(*answers), {})
        return status, json.loads(body)

    def infer(self, *answers: float) -> tuple[int, dict | list[float]]:
        """By the Open Inference Protocol, with binary data: what is said if not 200, else probabilities."""
        body, headers = oip.binary_request(answering.rows(*answers), parameters={"binary_data_output": True})
        status, content, length = self.ask(oip.INFER, body, {"Content-Type": headers["content-type"], **headers})
        if status != 200:
            return status, json.loads(content)
        return status, oip.outputs(content, length)["probabilities"][:, 1].tolist()

    def counts(self) -> dict[str, float]:
        """What it has counted so far."""
        return {
            "requests": self.counted(telemetry.REQUESTS),
            "500": self.counted(telemetry.REQUESTS, status="500"),
            "model": self.counted(telemetry.REFUSALS, kind="model"),
            "rows": self.counted(telemetry.ROWS),
            "not finite": self.counted(telemetry.NONFINITE_OUTPUTS),
            "impossible": self.counted(telemetry.OUTPUTS_OUT_OF_RANGE),
            "scores up to 0.25": self.counted(f"{telemetry.SCORE}_bucket", le="0.25"),
            "scores up to 0.2": self.counted(f"{telemetry.SCORE}_bucket", le="0.2"),
        }

    @contextmanager
    def counting(self, more: Mapping[str, int]) -> Iterator[None]:
        """What is asked in the block is counted as this much more, and as nothing else."""
        before = self.counts()
        assert more.keys() <= before.keys()
        expected = {name: count + more.get(name, 0) for name, count in before.items()}
        yield
        with suppress(AssertionError):
            eventually(lambda: self.counts() == expected)
        assert self.counts() == expected

    def counted(self, metric: str, **labels: str) -> float:
        """The sum of a metric's samples of this version; a histogram's are its buckets."""
        answer = loopback.get(f"{self._endpoint.url}/metrics", 5.0)
        assert answer
        wanted = {telemetry.MODEL: MODEL, telemetry.VERSION: str(self._number), **labels}
        samples = [one for family in text_string_to_metric_families(answer.body.decode()) for one in family.samples]
        return sum(one.value for one in samples if one.name == metric and wanted.items() <= one.labels.items())


@pytest.fixture(scope="module")
def pinned(rollouts: Rollouts, version: ModelVersion) -> Iterator[Pinned]:
    yield Pinned(rollouts, version)
    rollouts.deployer.stop(MODEL, version.version)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_500_in_both_apis_and_counted_by_row(pinned: Pinned, odd: float) -> None:
    said = {"error": "the model has no finite answer for rows[1]"}
    with pinned.counting({"requests": 2, "500": 2, "model": 2, "not finite": 4}):
        assert pinned.rows(answering.USUAL, odd, answering.USUAL, odd) == (500, said)
        assert pinned.infer(answering.USUAL, odd, odd) == (500, said)


@pytest.mark.parametrize(
    ("odd", "scores"),
    [(1.2, {"scores up to 0.25": 1}), (-0.2, {"scores up to 0.25": 4, "scores up to 0.2": 3})],
)
def test_probability_that_can_not_be_one_is_answered_as_it_is_and_counted_by_row(
    pinned: Pinned, odd: float, scores: dict[str, int]
) -> None:
    with pinned.counting({"requests": 2, "rows": 4, "impossible": 3, **scores}):
        status, answer = pinned.rows(answering.USUAL, odd, odd)
        assert status == 200
        assert [round(one["probability"], 6) for one in answer["predictions"]] == [answering.USUAL, odd, odd]
        status, probabilities = pinned.infer(odd)
        assert (status, [round(one, 6) for one in probabilities]) == (200, [odd])


def test_constant_answer_is_seen_in_the_scores(pinned: Pinned) -> None:
    with pinned.counting({"requests": 2, "rows": 40, "scores up to 0.25": 40}):
        assert pinned.rows(*[answering.USUAL] * 20)[0] == pinned.infer(*[answering.USUAL] * 20)[0] == 200


def test_canary_that_answers_no_numbers_is_taken_back_and_costs_its_few_percent(
    rollouts: Rollouts, version: ModelVersion
) -> None:
    """Its probes are rows on which it was proved: what it is worth, only the clients' rows show."""
    before = rollouts.route()
    number = version.version
    with Traffic(rollouts.house.url, MODEL, body=answering.body(math.nan)) as traffic:
        # The registry is away when it should hear of it; then the same call tells it, and tries nothing again.
        with (
            rollouts.between.misbehaving("POST .*/model-versions/set-tag$", between.refuse),
            pytest.raises(Unavailable, match=rf"v{number} was taken back \(.*errors: .* but it is not recorded"),
        ):
            rollouts.roll_out(version, POLICY)
        assert rollouts.route().split == before.split
        written = rollouts.route().generation
        done = rollouts.roll_out(version, POLICY)
        assert rollouts.route().generation == written
        after = len(traffic.lost)
        traffic.mark()
        traffic.wait_for(50)
    assert not done.finished
    assert "errors: " in done.reason
    assert (rollouts.registry.rollout(MODEL, number) or "").startswith("taken back: ")
    assert rollouts.route().split == before.split
    assert rollouts.registry.alias(MODEL, "champion") == before.split.stable
    assert number not in {endpoint.version for endpoint in rollouts.deployer.running(MODEL)}
    # One of twenty, and one that came early.
    print(f"{len(traffic.lost)} of {traffic.total} requests failed")
    assert 0 < len(traffic.lost) <= traffic.total * CANARY_PCT / 100 + 1
    assert Counter(traffic.lost).keys() == {"status 500"}
    assert len(traffic.lost) == after, "none once it was taken back"
    assert set(traffic.answered) == {before.split.stable}
