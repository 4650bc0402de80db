"""Feast's online store in Redis, read as Feast writes it.

One hash a key, with the values and the time of every view of its entity. What is kept here from one request to the
next are connections, and no value.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from redis.asyncio import Connection, SSLConnection
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import RedisError, ResponseError

from serving.feast_format import decode_hash, hash_field, hash_time_field, key_prefix, key_suffix
from serving.online_store import Asked, Found, Stored
from serving.store_trouble import Trouble

AT_ONCE = 256
"""How many keys are asked for in one round trip: about two milliseconds of the event loop."""
KEPT = 8
"""How many connections are kept for the next requests at most."""


@dataclass(frozen=True)
class Address:
    """Where a Redis is, and as whom to read it; neither `str` nor `repr` has the password."""

    host: str
    port: int
    database: int
    user: str
    password: str = field(repr=False)
    tls: bool

    def __str__(self) -> str:
        return f"redis{'s' if self.tls else ''}://{self.host}:{self.port}/{self.database}"


class _Question(NamedTuple):
    """One key of one view: what is sent, and how the answer is to be read."""

    view: int
    key: str
    command: bytes
    features: Sequence[str]


class _Form(NamedTuple):
    """What the commands for a view have in common."""

    features: Sequence[str]
    begin: bytes
    prefix: bytes
    fields: bytes


class FeastRedisStore:
    """An OnlineStore that is a Redis.

    It need not be there yet. While it does not answer, one read at a time tries, and the others have nothing at once.

    Attributes:
        address: where it is.
        project: Feast's name of the project, with which its keys end.
    """

    def __init__(self, address: Address, project: str) -> None:
        self.address = address
        self.project = project
        self._idle: list[Connection] = []
        self._forms: dict[tuple[str, str, frozenset[str]], _Form] = {}
        self._trouble = Trouble(str(address))
        self._down = self._trying = False

    async def read(self, asked: Sequence[Asked], deadline: float) -> Sequence[Found]:
        """See `OnlineStore`. One round trip for each `AT_ONCE` keys."""
        found: list[dict[str, Stored | None]] = [{} for _ in asked]
        tries = self._down
        if tries:
            if self._trying:
                return found
            self._trying = True
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                wrong = await self._read_again(asked, found)
            self._down = False
            self._trouble.say(wrong) if wrong else self._trouble.over()
        except TimeoutError:
            # One that has answered is slow, and not down.
            self._down = not any(found)
            self._trouble.say("it takes too long" if any(found) else "it did not answer within the deadline")
        except (RedisError, OSError) as refused:
            self._down = True
            self._trouble.say(str(refused))
        finally:
            if tries:
                self._trying = False
        return found

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            _drop(self._idle.pop())

    async def _read_again(self, asked: Sequence[Asked], found: list[dict[str, Stored | None]]) -> str:
        """Read with a connection that was kept; with a new one if that has ended, which shows when it is used."""
        if self._idle:
            # `_read_all` says why when it fails with the new one too.
            with contextlib.suppress(NotConnected, OSError):
                return await self._read_all(self._idle.pop(), asked, found)
            self.close()
        return await self._read_all(self._connection(), asked, found)

    async def _read_all(
        self, connection: Connection, asked: Sequence[Asked], found: list[dict[str, Stored | None]]
    ) -> str:
        """Read everything; what could not be read of it, or nothing."""
        wrong = ""
        try:
            if not connection.is_connected:
                await connection.connect()  # type: ignore[no-untyped-call]
            questions = self._questions(asked)
            while some := [*islice(questions, AT_ONCE)]:
                await connection.send_packed_command(b"".join([question.command for question in some]))
                for question in some:
                    try:
                        values = await connection.read_response(disable_decoding=True)
                        decoded = decode_hash(question.features, values)
                    except (ResponseError, TypeError, ValueError) as strange:
                        # The key stays out of `found`, which is to say that it could not be read.
                        wrong = f"view {asked[question.view].view}: {strange}"
                    else:
                        found[question.view][question.key] = decoded and Stored(*decoded)
        except BaseException:
            # Answers may still be under way to it.
            _drop(connection)
            raise
        if len(self._idle) < KEPT:
            self._idle.append(connection)
        else:
            _drop(connection)
        return wrong

    def _questions(self, asked: Sequence[Asked]) -> Iterator[_Question]:
        project = self.project.encode()
        for position, one in enumerate(asked):
            form = self._form(one)
            for key in one.keys:
                whole = _bulk(form.prefix + key_suffix(key) + project)
                yield _Question(position, key, form.begin + whole + form.fields, form.features)

    def _form(self, asked: Asked) -> _Form:
        known = self._forms.get((asked.view, asked.entity, asked.features))
        if known is None:
            features = sorted(asked.features)
            fields = [*(hash_field(asked.view, feature) for feature in features), hash_time_field(asked.view)]
            begin = b"*%d\r\n" % (len(fields) + 2) + _bulk(b"HMGET")
            known = _Form(features, begin, key_prefix(asked.entity), b"".join(map(_bulk, fields)))
            self._forms[asked.view, asked.entity, asked.features] = known
        return known

    def _connection(self) -> Connection:
        to = self.address
        options: dict[str, Any] = {"ssl_check_hostname": True} if to.tls else {}
        return (SSLConnection if to.tls else Connection)(
            host=to.host,
            port=to.port,
            db=to.database,
            username=to.user or None,
            password=to.password or None,
            # The deadline is the request's.
            socket_timeout=None,
            socket_connect_timeout=None,
            protocol=2,
            **options,
        )


def _bulk(data: bytes) -> bytes:
    """A part of a command, as Redis takes it."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _drop(connection: Connection) -> None:
    # Without waiting: whoever does not answer does not say goodbye either.
    connection._close()  # type: ignore[no-untyped-call]
