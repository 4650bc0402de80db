"""YAML and JSON documents to domain values, and back, with errors that name the file and the key."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from headrace.domain.contract import Contract
from headrace.errors import ContractError, DataError, HeadraceError, UsageError

T = TypeVar("T")


def bind(kind: type[T], value: Any, source: str, error: type[HeadraceError] = UsageError) -> T:
    """Make a frozen domain value of plain data.

    Args:
        kind: the dataclass.
        value: mappings, lists and scalars, as YAML or JSON gives them.
        source: where it is from, for the message.
        error: what to raise.

    Raises:
        HeadraceError: `error`, with every wrong key, what is wrong with it and its value.
    """
    try:
        found: T = _adapter(kind).validate_python(value)
        return found
    except ValidationError as invalid:
        raise error(f"{source}: " + "; ".join(_sentence(e) for e in invalid.errors())) from invalid


def _sentence(problem: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "it"
    match problem["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"unknown key `{where}`"
        case "missing" | "missing_argument":
            return f"`{where}` is missing"
        case "value_error":
            return str(problem["msg"]).removeprefix("Value error, ")
    return f"`{where}` is {problem['input']!r}: {problem['msg'].lower()}"


def plain(value: Any) -> Any:
    """A domain value as plain data: times in ISO 8601, tuples as lists, numbers as they are, finite or not."""
    return _adapter(type(value)).dump_python(value, mode="json")


# Making one takes milliseconds.
_adapter: Callable[[Any], TypeAdapter[Any]] = lru_cache(TypeAdapter)


def write_json(path: Path, value: Any) -> None:
    """Write a domain value or plain data, all of it or nothing."""
    data = plain(value) if hasattr(value, "__dataclass_fields__") else value
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.part")
    half.write_text(json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n")
    half.replace(path)


def read_json(kind: type[T], path: Path) -> T:
    """Read what `write_json` wrote.

    Raises:
        DataError: the file is not there, or does not hold such a value.
    """
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError as missing:
        raise DataError(f"{path} is not there") from missing
    except ValueError as broken:
        raise DataError(f"{path} is not JSON: {broken}") from broken
    return bind(kind, data, str(path), DataError)


def read_contract(path: Path) -> Contract:
    """Read a contract from YAML (which JSON is a part of).

    Raises:
        ContractError: the file is not there, is not YAML, or does not say a contract.
    """
    import yaml

    try:
        data = yaml.load(path.read_text(), Loader=_unique_keys_loader())  # noqa: S506 - a SafeLoader
    except FileNotFoundError as missing:
        raise ContractError(f"{path} is not there: every model has a contract") from missing
    except yaml.YAMLError as broken:
        raise ContractError(f"{path} is not YAML: {broken}") from broken
    contract = bind(Contract, data, str(path), ContractError)
    if path.name == "contract.yaml" and contract.model != path.parent.name:
        raise ContractError(f"{path}: `model` is {contract.model!r}, but the folder is {path.parent.name!r}")
    return contract


def _unique_keys_loader() -> Any:
    import yaml

    class UniqueKeys(yaml.SafeLoader):
        """YAML lets the last of two equal keys win in silence; here it is an error."""

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        keys = [loader.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is there twice", node.start_mark)
        return dict(loader.construct_pairs(node, deep=True))

    UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return UniqueKeys
