"""`headrace models` and `headrace lineage`."""

import re
from typing import Any

import click

from headrace import configuration
from headrace.cli.output import data, json_option, table
from headrace.cli.session import Session, session
from headrace.documents import plain
from headrace.domain.lineage import ModelVersion
from headrace.errors import DataError, UsageError


@click.command("models")
@click.argument("model", required=False)
@json_option
def models_command(model: str | None, as_json: bool) -> None:
    """List the models, or the versions of MODEL, as the registry has them."""
    here = session()
    here.require_platform()
    names = [here.model(model)] if model else list(configuration.models(here.settings.root))
    rows = []
    for name in names:
        versions = here.platform.registry.versions(name)
        rows += [_row(here, name, version) for version in versions] or [_row(here, name, None)]
    if as_json:
        data(rows)
        return
    heads = ("model", "version", "alias", "rollout", "as_of", "dataset", "commit")
    table(tuple(head.upper() for head in heads), [tuple(row[head] for head in heads) for row in rows])


def _row(here: Session, model: str, version: ModelVersion | None) -> dict[str, Any]:
    if version is None:
        return dict.fromkeys(("version", "alias", "rollout", "as_of", "dataset", "commit")) | {"model": model}
    registry, lineage = here.platform.registry, version.lineage
    aliases = [name for name in ("champion", "challenger") if registry.alias(model, name) == version.version]
    return {
        "model": model,
        "version": version.version,
        "alias": ", ".join(aliases) or None,
        "rollout": registry.rollout(model, version.version),
        "as_of": f"{lineage.fingerprint.as_of:%Y-%m-%d}",
        "dataset": lineage.fingerprint.id,
        "commit": lineage.code.commit[:12] + ("-dirty" if lineage.code.dirty else ""),
    }


@click.command("lineage")
@click.argument("name", metavar="MODEL@VERSION")
@json_option
def lineage_command(name: str, as_json: bool) -> None:
    """What made MODEL@VERSION; VERSION is a number, or an alias such as champion."""
    matched = re.fullmatch(r"([^@]+)@(?:v?(\d+)|([a-z]+))", name)
    if not matched:
        raise UsageError(f"{name!r} is not MODEL@VERSION, for example flight_delay@3 or flight_delay@champion")
    here = session()
    model = here.model(matched[1])
    here.require_platform()
    number = int(matched[2]) if matched[2] else here.platform.registry.alias(model, matched[3])
    if number is None:
        raise DataError(f"{model} has no version that is called {matched[3]!r}")
    version = here.platform.registry.version(model, number)
    if as_json:
        data(plain(version))
        return
    for key, value in _flat(plain(version.lineage)):
        click.echo(f"{key:<34} {value}")


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Nested keys as dotted ones, in order."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{prefix}.{key}" if prefix else key)]
    return [(prefix, value)]
