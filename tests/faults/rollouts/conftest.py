"""One platform for all faults of rollouts, with a first version in service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.adapters.mlflow_registry import MlflowRegistry
from headrace.domain.split import Split
from tests.faults.house import MODEL, House
from tests.faults.rollouts import answering
from tests.faults.rollouts.between import Between
from tests.faults.rollouts.platform import Rollouts, as_trained


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


@pytest.fixture(scope="session")
def steady(rollouts: Rollouts, tmp_path_factory: pytest.TempPathFactory) -> int:
    """The stable version: it gives everybody the same usual answer."""
    folder = tmp_path_factory.mktemp("steady") / "model"
    version = rollouts.register(answering.directory(rollouts.trained, folder, odd=False))
    # From a model of another kind, whose answers are others, by somebody's word.
    route = rollouts.route()
    rollouts.deployer.start(version, rollouts.platform.model_directory(version), timeout_s=60)
    rollouts.house.router.write(MODEL, Split(version.version), route.generation, "for the test")
    rollouts.registry.set_alias(MODEL, "champion", version.version)
    return version.version
