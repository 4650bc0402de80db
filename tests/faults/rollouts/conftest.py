"""One platform for all faults of rollouts, with a first version in service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.adapters.mlflow_registry import MlflowRegistry
from tests.faults.house import House
from tests.faults.rollouts import answering
from tests.faults.rollouts.between import Between
from tests.faults.rollouts.platform import Rollouts, as_trained, back_to


@pytest.fixture(scope="session")
def rollouts(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[Rollouts]:
    """Some version has all traffic, and is champion; MLflow answers. To be left that way."""
    house = House(tmp_path_factory.mktemp("rollouts"), trained)
    with pytest.MonkeyPatch.context() as environment, Between(house.settings.mlflow_port) as between:
        # Between two tries MLflow's client would wait for seconds.
        environment.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        environment.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
        try:
            made = Rollouts(
                house,
                as_trained(trained, house.folder / "trained"),
                between,
                MlflowRegistry(between.url),
            )
            made.start_mlflow()
            assert made.roll_out(made.register()).finished
            yield made
        finally:
            house.close()


@pytest.fixture(scope="module")
def steady(rollouts: Rollouts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A stable version that gives everybody the same usual answer; who was stable is so again afterwards."""
    before = rollouts.route().split.stable
    folder = tmp_path_factory.mktemp("steady") / "model"
    version = rollouts.register(answering.directory(rollouts.trained, folder, odd=False))
    # Of another kind, with other answers: not by a rollout.
    back_to(rollouts, version.version)
    yield version.version
    back_to(rollouts, before)
