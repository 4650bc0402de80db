"""Feast's registry: a file, or a database of PostgreSQL; what Feast is told of it, and who may use it when."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from headrace.adapters.local.locks import held
from headrace.errors import Conflict, UsageError
from headrace.settings import Settings, variable

LOCK_TIMEOUT_S = 300
_CONNECT_S = 10
# A holder whose machine is gone is noticed after a minute, and not after the two hours that are PostgreSQL's default.
_WHILE_HELD = (
    f"lock_timeout = '{LOCK_TIMEOUT_S}s'",
    "tcp_keepalives_idle = 30",
    "tcp_keepalives_interval = 10",
    "tcp_keepalives_count = 3",
)


class Registry(Protocol):
    """A registry of Feast's."""

    def held(self, writes: bool) -> contextlib.AbstractContextManager[Mapping[str, Any]]:
        """Nobody writes it meanwhile, and nobody reads it while one writes: Feast writes one object after the other.

        Yields:
            The section ``registry`` of feature_store.yaml, good for as long.

        Raises:
            Conflict: another has held it for `LOCK_TIMEOUT_S`.
        """
        ...


def registry_of(settings: Settings) -> Registry:
    """The one that the settings name.

    Raises:
        UsageError: they name none.
    """
    return SqlRegistry(settings.feast_registry) if settings.feast_registry else FileRegistry(settings.home)


class FileRegistry:
    """A file below the home folder, which Feast writes in place: one at a time uses it."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "feast"

    @contextlib.contextmanager
    def held(self, writes: bool) -> Iterator[Mapping[str, Any]]:
        """See `Registry`."""
        with held(self._folder / "lock", LOCK_TIMEOUT_S):
            yield {"registry_type": "file", "path": str(self._folder / "registry.db")}


class SqlRegistry:
    """Tables in a database of PostgreSQL, which many machines use: ``postgresql://user:password@host:5432/feast``."""

    def __init__(self, url: str) -> None:
        scheme, separator, rest = url.partition("://")
        if scheme not in ("postgresql", "postgresql+psycopg") or not separator or not rest:
            raise UsageError(
                f"{variable('feast_registry')} is not of the form postgresql://USER:PASSWORD@HOST:5432/NAME"
            )
        # The driver that Feast wants, and that is installed with it.
        self._url = f"postgresql+psycopg://{rest}"

    @contextlib.contextmanager
    def held(self, writes: bool) -> Iterator[Mapping[str, Any]]:
        """See `Registry`. The database holds the lock, and lets go of it when the connection ends, however it ends."""
        from sqlalchemy import create_engine

        engine = create_engine(self._url, connect_args={"connect_timeout": _CONNECT_S})
        try:
            with self._locked(writes):
                yield {
                    "registry_type": "sql",
                    "path": self._url,
                    # Feast closes no connection; those of this pool are closed below.
                    "sqlalchemy_config_kwargs": {"pool": engine.pool},
                    # Only a writer makes the tables: two that do so at once get in each other's way.
                    "schema_mode": "auto" if writes else "verify",
                }
        finally:
            engine.dispose()

    @contextlib.contextmanager
    def _locked(self, writes: bool) -> Iterator[None]:
        import psycopg.errors
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import OperationalError
        from sqlalchemy.pool import NullPool

        engine = create_engine(self._url, poolclass=NullPool, connect_args={"connect_timeout": _CONNECT_S})
        # Of a transaction and not of the session, so that poolers which share sessions do no harm.
        lock = "pg_advisory_xact_lock" if writes else "pg_advisory_xact_lock_shared"
        with engine.begin() as connection:
            for setting in _WHILE_HELD:
                connection.execute(text(f"SET LOCAL {setting}"))
            try:
                connection.execute(text(f"SELECT {lock}(hashtext('headrace feast'))"))
            except OperationalError as refused:
                if not isinstance(refused.orig, psycopg.errors.LockNotAvailable):
                    raise
                raise Conflict(
                    f"another process has used the feature store for {LOCK_TIMEOUT_S} s: wait for it, or end it"
                ) from refused
            yield
