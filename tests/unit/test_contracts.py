import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.documents import read_contract
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
