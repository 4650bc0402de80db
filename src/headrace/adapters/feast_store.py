"""The feature store, on Feast: registry and online store are files below the home folder, or PostgreSQL and Redis."""

import contextlib
import io
import traceback
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from headrace.adapters.feast_online import online_of
from headrace.adapters.feast_registry import registry_of
from headrace.domain.contract import Contract
from headrace.errors import ContractError, DataError, HeadraceError, Unavailable
from headrace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


def online_store_url(settings: Settings) -> str:
    """Where a service reads what `materialise` wrote, in the form of its flag ``--online-store``.

    With the password, if there is one.
    """
    import yaml

    project = yaml.safe_load((settings.root / "feature_repo" / "feature_store.yaml").read_text())["project"]
    return online_of(settings).url(project)


class FeastStore:
    """The FeatureStore port. `import feast` takes seconds, so it happens in the methods."""

    def __init__(self, settings: Settings) -> None:
        self._repository = settings.root / "feature_repo"
        self._registry = registry_of(settings)
        self._online = online_of(settings)
        self._secrets = _passwords(settings.feast_registry, settings.online_store)

    def apply(self) -> None:
        """Write the definitions of all contracts to the registry, and remove what no contract declares any more."""
        with self._session("the feature definitions", writes=True) as store:
            declared = _definitions(self._repository / "definitions.py")
            store.apply(declared, objects_to_delete=_undeclared(store, declared), partial=False)

    def training_frame(self, contract: Contract, rows: "pd.DataFrame") -> "pd.DataFrame":
        """See the port. Values come through the model's feature service, which `apply` wrote."""
        if not contract.views:
            return rows.copy()
        with self._session(f"features of {contract.model}") as store:
            keys = rows[list(contract.entities)].assign(event_timestamp=rows[contract.rows.decision_time])
            service = store.get_feature_service(contract.model)
            found = store.get_historical_features(entity_df=keys.reset_index(drop=True), features=service).to_df()
        if len(found) != len(rows):
            raise DataError(f"the feature store gave {len(found)} rows of {contract.model} for {len(rows)}")
        return rows.assign(**{f.name: found[f.name].to_numpy() for f in contract.features if f.view is not None})

    def materialise(self, contract: Contract, as_of: datetime) -> Mapping[str, int]:
        """See the port. The online store then holds what was known at `as_of`, neither newer nor expired values.

        That is so for an `as_of` before that of the last call too: a replay of an earlier time must not find the
        future. Readers see a key's old value until its new one is there.
        """
        counts = {}
        with self._session(f"online features of {contract.model}", writes=True) as store:
            for name, view in contract.views.items():
                oldest = as_of - timedelta(hours=view.max_age_h)
                store.materialize(start_date=oldest, end_date=as_of, feature_views=[name])
                counts[name] = self._online.keep_only(store, name, oldest, as_of)
        return counts

    @contextlib.contextmanager
    def _session(self, what: str, writes: bool = False) -> Iterator[Any]:
        """A store whose registry nobody else writes meanwhile; no other session is there if this one writes."""
        # Feast prints what it does on stdout, which is for data, and draws progress bars on stderr.
        quiet = io.StringIO()
        with (
            _translated(what, self._secrets),
            self._registry.held(writes) as registry,
            contextlib.redirect_stdout(quiet),
            contextlib.redirect_stderr(quiet),
        ):
            yield self._open(registry)

    def _open(self, registry: Mapping[str, Any]) -> Any:
        import yaml
        from feast import FeatureStore
        from feast.repo_config import RepoConfig

        config = yaml.safe_load((self._repository / "feature_store.yaml").read_text())
        config["registry"] = {**registry}
        config["online_store"] = {**self._online.config(config["project"])}
        return FeatureStore(config=RepoConfig(**config, repo_path=self._repository))


def _definitions(path: Path) -> list[Any]:
    import importlib.util

    spec = importlib.util.spec_from_file_location("headrace_feature_definitions", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ContractError(f"{path} is not there: it generates the feature definitions from the contracts")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ValueError as wrong:
        raise ContractError(str(wrong)) from wrong
    return list(module.DEFINITIONS)


def _undeclared(store: Any, declared: list[Any]) -> list[Any]:
    from feast.feature_view import DUMMY_ENTITY_NAME

    kept = {(type(one).__name__, one.name) for one in declared}
    kept |= {("FileSource", one.batch_source.name) for one in declared if hasattr(one, "batch_source")}
    stored = [
        *store.list_feature_services(),
        *store.list_feature_views(),
        *store.list_data_sources(),
        *(entity for entity in store.list_entities() if entity.name != DUMMY_ENTITY_NAME),
    ]
    return [one for one in stored if (type(one).__name__, one.name) not in kept]


def _passwords(*urls: str) -> Sequence[str]:
    """As the URLs have them, and as they are; taken apart more generously than any library does."""
    users = [url.partition("://")[2].rpartition("@")[0] for url in urls]
    written = [password for user in users if (password := user.partition(":")[2])]
    return [*written, *map(unquote, written)]


@contextlib.contextmanager
def _translated(what: str, secrets: Sequence[str]) -> Iterator[None]:
    """No exception of Feast or of what it stands on passes, and no password in one."""
    try:
        yield
    except HeadraceError:
        raise
    except Exception as failed:
        translated = _ours(what, failed)
        if not any(secret in "".join(traceback.format_exception(failed)) for secret in secrets):
            raise translated from failed
        said = str(translated)
        for secret in secrets:
            said = said.replace(secret, "***")
        raise type(translated)(said) from None


def _ours(what: str, failed: Exception) -> HeadraceError:
    import sqlite3

    if isinstance(failed, ImportError):
        return HeadraceError(f"{what}: {failed}: install headrace with its extra `steps`, in a cluster `cluster`")
    if isinstance(failed, FileNotFoundError):
        return DataError(f"{what}: {failed.filename or failed} is not there: bring the data first")
    if isinstance(failed, (sqlite3.OperationalError, OSError)) or _is_refusal(failed):
        return Unavailable(f"{what}: the feature store can't be read or written: {failed}")
    if type(failed).__name__ == "FeastRegistrySchemaError":
        return DataError(f"{what}: the registry has no definitions yet: apply them first")
    # Feast raises its own classes, Arrow's and bare ValueErrors alike for what data and definitions lack.
    return DataError(f"{what}: {type(failed).__name__}: {failed}")


def _is_refusal(failed: Exception) -> bool:
    """Whether PostgreSQL or Redis does not answer, or not to us; by name, because their libraries need not be there."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(failed).__mro__}
    return not kinds.isdisjoint({"sqlalchemy.exc.OperationalError", "redis.exceptions.RedisError"})
