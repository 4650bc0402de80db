"""What Feast knows, generated from the contracts of ``models/``; nothing about features is written down here.

One file on purpose: Feast imports every file of this folder by path, so an import between two of them would make
every object twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Bool, FeastType, Float64, Int64, String

from headrace.documents import read_contract
from headrace.domain.contract import Contract, FeatureType

TYPES: Mapping[FeatureType, FeastType] = {"float": Float64, "int": Int64, "bool": Bool, "category": String}

Definition = Entity | FeatureView | FeatureService


def define(models: Path) -> list[Definition]:
    """All entities, views and services of a project; each model's service has its name.

    Args:
        models: the folder with ``<model>/contract.yaml``.

    Raises:
        ContractError: a contract is wrong.
        ValueError: two models declare a view of the same name.
    """
    contracts = [read_contract(path) for path in sorted(models.glob("*/contract.yaml"))]
    entities = entities_of(contracts)
    views: dict[str, FeatureView] = {}
    services = []
    for contract in contracts:
        own = {name: _view(contract, name, entities) for name in contract.views}
        taken = sorted(set(own) & set(views))
        if taken:
            raise ValueError(f"models/{contract.model}/contract.yaml: views {taken} belong to another model already")
        views.update(own)
        services.append(FeatureService(name=contract.model, features=list(own.values())))
    return [*entities.values(), *views.values(), *services]


def entities_of(contracts: Iterable[Contract]) -> dict[str, Entity]:
    """One entity for each join key, however many models use it. Join keys are strings."""
    names = sorted({name for contract in contracts for name in contract.entities})
    return {name: Entity(name=name, join_keys=[name], value_type=ValueType.STRING) for name in names}


def _view(contract: Contract, name: str, entities: Mapping[str, Entity]) -> FeatureView:
    view = contract.views[name]
    features = [
        Field(name=f.name, dtype=TYPES[f.type], description=f.description) for f in contract.features if f.view == name
    ]
    return FeatureView(
        name=name,
        description=view.description,
        entities=[entities[view.entity]],
        ttl=timedelta(hours=view.max_age_h),
        schema=[Field(name=view.entity, dtype=String), *features],
        source=FileSource(
            name=f"{name}_source",
            path=f"../{view.source}",
            timestamp_field=view.time,
            file_format=ParquetFormat(),
        ),
        tags={"model": contract.model},
    )


def _names(definitions: Sequence[Definition]) -> dict[str, Definition]:
    return {f"{type(one).__name__.lower()}_{one.name}": one for one in definitions}


# Feast's own commands (`feast apply`, `feast plan`, `feast ui`) look for objects among a module's names.
DEFINITIONS = define(Path(__file__).resolve().parents[1] / "models")
globals().update(_names(DEFINITIONS))
