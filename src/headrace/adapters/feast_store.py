"""The feature store, on Feast: registry and online store are files below the home folder."""

import contextlib
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.adapters.local.locks import held
from headrace.domain.contract import Contract
from headrace.errors import ContractError, DataError, HeadraceError, Unavailable
from headrace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

LOCK_TIMEOUT_S = 300


def online_store_url(settings: Settings) -> str:
    """Where a service reads what `materialise` wrote, in the form of its flag ``--online-store``."""
    import yaml

    project = yaml.safe_load((settings.root / "feature_repo" / "feature_store.yaml").read_text())["project"]
    return f"sqlite://{quote(str(settings.home / 'feast' / 'online.db'))}?project={quote(project)}"


class FeastStore:
    """The FeatureStore port. `import feast` takes seconds, so it happens in the methods."""

    def __init__(self, settings: Settings) -> None:
        self._repository = settings.root / "feature_repo"
        self._home = settings.home / "feast"

    def apply(self) -> None:
        """Write the definitions of all contracts to the registry, and remove what no contract declares any more."""
        with self._session("the feature definitions") as store:
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
        with self._session(f"online features of {contract.model}") as store:
            for name, view in contract.views.items():
                oldest = as_of - timedelta(hours=view.max_age_h)
                store.materialize(start_date=oldest, end_date=as_of, feature_views=[name])
                counts[name] = self._remove_outside(store, name, oldest, as_of)
        return counts

    def _remove_outside(self, store: Any, view: str, oldest: datetime, newest: datetime) -> int:
        """Remove values from outside the span, which materialisation leaves; return the number of keys that stay."""
        import sqlite3

        from feast.infra.online_stores.helpers import compute_table_id

        table = compute_table_id(store.project, store.get_feature_view(view))
        # Feast stores times as the machine's clock would read their UTC digits, in whole seconds since 1970.
        span = [int(moment.astimezone(UTC).replace(tzinfo=None).timestamp()) for moment in (oldest, newest)]
        with contextlib.closing(sqlite3.connect(self._home / "online.db", timeout=30)) as online, online:
            online.execute(f'DELETE FROM "{table}" WHERE event_ts < ? OR event_ts > ?', span)  # noqa: S608
            (count,) = online.execute(f'SELECT count(DISTINCT entity_key) FROM "{table}"').fetchone()  # noqa: S608
        return int(count)

    @contextlib.contextmanager
    def _session(self, what: str) -> Iterator[Any]:
        """A store that nobody else uses meanwhile: Feast writes its registry in place and without a lock."""
        # Feast prints what it does on stdout, which is for data, and draws progress bars on stderr.
        quiet = io.StringIO()
        with (
            _translated(what),
            held(self._home / "lock", LOCK_TIMEOUT_S),
            contextlib.redirect_stdout(quiet),
            contextlib.redirect_stderr(quiet),
        ):
            yield self._open()

    def _open(self) -> Any:
        import yaml
        from feast import FeatureStore
        from feast.repo_config import RepoConfig

        config = yaml.safe_load((self._repository / "feature_store.yaml").read_text())
        config["registry"]["path"] = str(self._home / "registry.db")
        config["online_store"]["path"] = str(self._home / "online.db")
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


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """No exception of Feast or of what it stands on passes."""
    import sqlite3

    try:
        yield
    except HeadraceError:
        raise
    except ImportError as missing:
        raise HeadraceError(f"{what}: {missing}: install headrace with its extra `steps`") from missing
    except FileNotFoundError as missing:
        raise DataError(f"{what}: {missing.filename or missing} is not there: bring the data first") from missing
    except (sqlite3.OperationalError, OSError) as refused:
        raise Unavailable(f"{what}: the feature store can't be read or written: {refused}") from refused
    except Exception as failed:
        # Feast raises its own classes, Arrow's and bare ValueErrors alike for what data and definitions lack.
        raise DataError(f"{what}: {type(failed).__name__}: {failed}") from failed
