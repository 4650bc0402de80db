"""The record of a route, as text: what every router keeps beside the weights."""

import json
from pathlib import PurePath

from headrace.documents import bind, plain
from headrace.errors import IntegrityError
from headrace.ports import Route

SCHEMA_VERSION = 2
"""1 had no rollout, shadow or sticky; it is read as well."""


def dump(route: Route) -> str:
    """One line of JSON."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **plain(route)}, sort_keys=True)


def load(text: str, where: str | PurePath, model: str) -> Route:
    """What `dump` made.

    Args:
        text: the line.
        where: it is from, for messages.
        model: whose route it has to be.

    Raises:
        IntegrityError: it is no record, another model's, or of a newer form.
    """
    try:
        record = json.loads(text)
        version = record.pop("schema_version") if isinstance(record, dict) else None
    except (ValueError, KeyError) as broken:
        raise unreadable(where, broken) from broken
    if not isinstance(version, int):
        raise unreadable(where, "it has no record of Headrace")
    if version > SCHEMA_VERSION:
        raise IntegrityError(f"{where} was written by a newer Headrace (form {version}); use that one, or a newer one")
    found = bind(Route, record, str(where), IntegrityError)
    if found.model != model:
        raise unreadable(where, f"it is the record of {found.model!r}")
    return found


def unreadable(where: str | PurePath, why: object) -> IntegrityError:
    """For a record that can't be gone on from."""
    return IntegrityError(f"{where} can't be read: {why}; put its record back, or remove it and roll out again")
