"""A model's own code: ``models/<model>/model.py``."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headrace.documents import bind
from headrace.errors import ContractError


@dataclass(frozen=True)
class ModelCode:
    """What a model.py offers.

    Attributes:
        params: a frozen dataclass: the parameters with their defaults and checks.
        build: (params, contract) -> estimator with fit and predict, over the encoded matrix.
        value: (rows, prediction) -> what each prediction was worth, (n_rows,).
    """

    params: type
    build: Callable[..., Any]
    value: Callable[..., Any]
    path: Path

    def bind_params(self, given: Mapping[str, Any]) -> Any:
        """The parameters, checked. Raises UsageError for an unknown or wrong one."""
        return bind(self.params, dict(given), f"the `train` parameters of {self.path.parent.name}")

    def resolved(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters with their defaults filled in."""
        return asdict(self.bind_params(given))


def load(root: Path, model: str) -> ModelCode:
    """Import a model's code by path.

    Raises:
        ContractError: there is no model.py, it does not import, or it lacks one of Params, build and value.
    """
    path = root / "models" / model / "model.py"
    if not path.is_file():
        raise ContractError(f"{path} is not there: a model needs a model.py with Params, build and value")
    spec = importlib.util.spec_from_file_location(f"headrace_model_{model}", path)
    if spec is None or spec.loader is None:
        raise ContractError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as broken:
        raise ContractError(f"{path} does not import: {type(broken).__name__}: {broken}") from broken
    missing = [name for name in ("Params", "build", "value") if not hasattr(module, name)]
    if missing:
        raise ContractError(f"{path} lacks {', '.join(missing)}")
    return ModelCode(module.Params, module.build, module.value, path)
