import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.documents import plain, read_contract, read_json, write_json
from headrace.domain.contract import Contract
from headrace.domain.encoding import row_problems
from headrace.errors import ContractError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "models").glob("*/contract.yaml"))


def tiny() -> dict[str, Any]:
    """The smallest contract with a view, a category and a slice."""
    return {
        "model": "tiny",
        "description": "a model for tests",
        "task": "binary",
        "rows": {"source": "data/rows", "stage": "models/tiny/dvc.yaml", "key": "id", "decision_time": "at"},
        "label": {
            "name": "bad",
            "description": "1 if it went wrong",
            "time": "known_at",
            "delay_h": {"p10": 1, "p50": 2, "p90": 3},
        },
        "views": {"load": {"entity": "site", "source": "data/load.parquet", "time": "seen", "max_age_h": 6}},
        "features": [
            {"name": "kind", "type": "category", "description": "what it is", "values": ["a", "b"]},
            {
                "name": "load_pct",
                "type": "float",
                "description": "how full",
                "range": [0, 100],
                "missing": True,
                "view": "load",
            },
        ],
        "slices": {"kind": {"feature": "kind"}},
        "metric": "auc",
        "business_value": {"name": "caught", "unit": "pieces", "description": "what was caught"},
        "budgets": {"latency_ms_p99": 10, "size_mb": 1},
        "example": {"kind": "a", "load_pct": 40},
    }


def read(tmp_path: Path, document: dict[str, Any]) -> Any:
    path = tmp_path / "tiny" / "contract.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return read_contract(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_contract_loads_and_its_example_is_a_valid_row(path: Path) -> None:
    contract = read_contract(path)
    assert row_problems(contract, contract.example) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_contract_describes_every_feature_and_keeps_its_example_in_range(path: Path) -> None:
    contract = read_contract(path)
    for feature in contract.features:
        assert feature.description
        value = contract.example[feature.name]
        if feature.range is not None and value is not None:
            assert feature.range[0] <= value <= feature.range[1], feature.name


def test_shipped_models_are_two() -> None:
    assert [path.parent.name for path in SHIPPED] == ["bike_demand", "flight_delay"]


def test_tiny_contract_loads(tmp_path: Path) -> None:
    assert read(tmp_path, tiny()).entities == ("site",)


def change(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    *parents, last = path.split(".")
    target: Any = changed
    for part in parents:
        target = target[int(part) if part.isdigit() else part]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("flavour", "sweet", "unknown key `flavour`"),
        ("rows.flavour", "sweet", "unknown key `rows.flavour`"),
        ("rows.key", None, "`rows.key` is missing"),
        ("label", None, "`label` is missing"),
        ("task", "ranking", "`task` is 'ranking'"),
        ("metric", "rmse", "metric 'rmse' is none of"),
        ("example", {"kind": "a"}, r"missing \['load_pct'\]"),
        ("example", {"kind": "a", "load_pct": 1, "more": 2}, r"not features \['more'\]"),
        ("features.0.name", "Kind", "is not snake_case"),
        ("features.0.values", ["a", "a"], "repeated category"),
        ("features.0.values", None, "`values` belongs to type category"),
        ("features.1.range", [100, 0], "ends swapped"),
        ("features.1.range", None, "needs a `range`"),
        ("features.1.name", "kind", r"features \['kind'\] are declared twice"),
        ("features.1.view", "lood", r"names view 'lood'; views are \['load'\]"),
        ("slices.kind.feature", "colour", "which is not a feature"),
        ("slices.kind.feature", "load_pct", "is not a category, so it needs `bins`"),
        ("slices.kind.bins", [0, 1], "2 bins need 1 labels"),
        ("model", "other", "but the folder is 'tiny'"),
        ("schema_version", 2, "`schema_version` is 2"),
        ("views.load.fallback", "guess", "`views.load.fallback` is 'guess'"),
        ("features.1.default", "a", "feature 'load_pct': `default` 'a' does not fit type float"),
        ("features.1.default", True, "feature 'load_pct': `default` True does not fit type float"),
        ("features.1.default", 101, r"feature 'load_pct': `default` 101 is outside range \[0.0, 100.0\]"),
        ("features.1.default", float("nan"), "feature 'load_pct': `default` nan is outside range"),
        ("features.0.default", "a", "feature 'kind': `default` belongs to a feature with a `view`"),
        ("features.0.default", "c", "feature 'kind': `default` 'c' is none of its `values`"),
    ],
)
def test_wrong_contract_says_which_key_and_why(tmp_path: Path, path: str, value: Any, sentence: str) -> None:
    with pytest.raises(ContractError, match=sentence):
        read(tmp_path, change(tiny(), path, value))


def test_every_wrong_key_is_reported_at_once(tmp_path: Path) -> None:
    wrong = change(change(tiny(), "rows.key", None), "flavour", "sweet")
    with pytest.raises(ContractError, match=r"(?s)flavour.*rows\.key|rows\.key.*flavour"):
        read(tmp_path, wrong)


def test_key_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text("model: tiny\nmetric: auc\nmetric: brier\n")
    with pytest.raises(ContractError, match="key 'metric' is there twice"):
        read_contract(path)


def test_missing_and_unreadable_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="is not there: every model has a contract"):
        read_contract(tmp_path / "contract.yaml")
    (tmp_path / "contract.yaml").write_text("model: [")
    with pytest.raises(ContractError, match="is not YAML"):
        read_contract(tmp_path / "contract.yaml")


def of_view(tmp_path: Path, feature: dict[str, Any], example: Any, fallback: str | None = None) -> Contract:
    """The tiny contract with one feature in its view."""
    document = tiny()
    document["features"][1] = {"name": "load_pct", "description": "", "view": "load", **feature}
    document["example"]["load_pct"] = example
    if fallback:
        document["views"]["load"]["fallback"] = fallback
    return read(tmp_path, document)


@pytest.mark.parametrize(
    ("feature", "default"),
    [
        ({"type": "float", "range": [0, 9]}, 1.5),
        ({"type": "float", "range": [0, 9]}, 2),
        ({"type": "int", "range": [0, 9]}, 3),
        ({"type": "bool"}, False),
        ({"type": "category", "values": ["a", "b"]}, "b"),
    ],
)
def test_default_keeps_its_type_in_contract_json(tmp_path: Path, feature: dict[str, Any], default: Any) -> None:
    contract = of_view(tmp_path, feature | {"default": default}, default, "default")
    write_json(tmp_path / "contract.json", contract)
    again = read_json(Contract, tmp_path / "contract.json")
    assert again == contract
    assert (type(again.features[1].default), again.features[1].default) == (type(default), default)


def test_whole_number_is_no_default_of_an_int_when_it_is_written_as_a_float(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"`default` 3.0 does not fit type int"):
        of_view(tmp_path, {"type": "int", "range": [0, 9], "default": 3.0}, 3)


def test_view_falls_back_to_defaults_where_every_feature_has_one_or_may_be_missing(tmp_path: Path) -> None:
    number = {"type": "float", "range": [0, 9]}
    assert of_view(tmp_path, number | {"missing": True}, 1).fallback("load") == "default"
    assert of_view(tmp_path, number | {"default": 1}, 1).fallback("load") == "default"
    assert of_view(tmp_path, number, 1).fallback("load") == "refuse"
    assert of_view(tmp_path, number | {"missing": True}, 1, "refuse").fallback("load") == "refuse"


def test_fallback_to_a_default_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"view 'load': `fallback: default` needs .* of \['load_pct'\]"):
        of_view(tmp_path, {"type": "float", "range": [0, 9]}, 1, "default")


def test_contract_json_from_before_there_were_fallbacks_is_read(tmp_path: Path) -> None:
    contract = of_view(tmp_path, {"type": "float", "range": [0, 9]}, 1)
    document = plain(contract)
    for feature in document["features"]:
        del feature["default"]
    del document["views"]["load"]["fallback"]
    (tmp_path / "contract.json").write_text(json.dumps(document))
    assert read_json(Contract, tmp_path / "contract.json") == contract


def test_row_extras_are_the_keys_and_the_time_that_are_not_features(tmp_path: Path) -> None:
    assert read(tmp_path, tiny()).row_extras == {"site": "key", "id": "key", "at": "time"}
    flights = read_contract(ROOT / "models/flight_delay/contract.yaml")
    assert flights.row_extras == {"tailnum": "key", "flight_id": "key", "decision_time": "time"}
