"""conf/ by Hydra, and what is refused."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace import configuration
from headrace.domain.request import TrainingRequest
from headrace.errors import UsageError
from headrace.learning import model_code

ROOT = Path(__file__).parents[2]


def compose(*overrides: str, model: str = "flight_delay"):
    return configuration.compose(ROOT, TrainingRequest(model, overrides))


@pytest.mark.parametrize("model", configuration.models(ROOT))
def test_every_shipped_configuration_resolves_with_its_parameters(model: str):
    config = compose(model=model)
    assert config.train_start < config.holdout_start < config.as_of
    assert model_code.load(ROOT, model).resolved(config.train)


def test_overrides_reach_the_configuration():
    config = compose("as_of=2013-07-01", "train.max_iter=300")
    assert config.as_of == datetime(2013, 7, 1, tzinfo=UTC)
    assert config.train["max_iter"] == 300


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.max_itre=300", "max_itre"),
        ("asof=2013-07-01", "asof"),
        ("as_of=yesterday", "yesterday"),
        ("window.train_days=0", "train_days 0"),
        ("nonsense", "nonsense"),
        ("gate=nosuch", "nosuch"),
        ("gate.min_rows=many", "many"),
        ("gate.no_such_rule=1", "no_such_rule"),
        ("--flag", "KEY=VALUE"),
    ],
)
def test_a_wrong_override_is_refused_with_what_is_wrong(override: str, told: str):
    with pytest.raises(UsageError, match=told):
        compose(override)


def test_an_unknown_training_parameter_is_refused_by_the_model():
    config = compose("+train.depth=3")
    with pytest.raises(UsageError, match="depth"):
        model_code.load(ROOT, "flight_delay").bind_params(config.train)


def test_an_unknown_model_is_refused_with_those_that_exist():
    with pytest.raises(UsageError, match=r"flight_dely.*flight_delay"):
        compose(model="flight_dely")
