"""An online store as Feast lays it out in Redis, without Feast; test_online_store.py reads Feast's own."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from serving.feast_format import hash_field, hash_time_field, key_prefix, key_suffix
from tests.databases import Redis
from tests.serving.online_file import Value, encoded, varint

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class OnlineHash:
    """One database of a server, for a writer."""

    server: Redis
    project: str = "tests"

    @property
    def url(self) -> str:
        """For a service."""
        return f"{self.server.url()}?project={self.project}"

    def key(self, entity: str, key: str) -> bytes:
        """Where the values of a key are."""
        return key_prefix(entity) + key_suffix(key) + self.project.encode()

    def put(self, view: str, entity: str, key: str, at: datetime, **values: Value) -> None:
        """Store values of a key; bytes are stored as they are."""
        fields = {hash_field(view, name): encoded(value) for name, value in values.items()}
        fields[hash_time_field(view)] = b"\x08" + varint((at - EPOCH) // timedelta(seconds=1))
        with self.server.client() as client:
            client.hset(self.key(entity, key), mapping=fields)
