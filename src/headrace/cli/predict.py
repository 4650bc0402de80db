"""`headrace predict`."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import click

from headrace.cli.output import data, json_option, table
from headrace.cli.session import session
from headrace.domain.contract import Contract, Feature
from headrace.errors import DataError, UsageError


@click.command("predict")
@click.argument("model")
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(path_type=Path),
    help="Rows as .json, .jsonl, .csv or .parquet; - is JSON on stdin.",
)
@click.option("--version", type=int, help="Ask this version, whatever the weights say.")
@json_option
def predict_command(model: str, path: Path | None, version: int | None, as_json: bool) -> None:
    """Ask MODEL for predictions: of the rows in a file, or of the contract's example.

    Rows may leave out what the feature store has under their keys.
    """
    from headrace.client import Client
    from headrace.documents import plain
    from headrace.steps.plan import contract_of

    here = session()
    contract = contract_of(here.platform, here.model(model))
    rows = [plain(contract)["example"]] if path is None else read_rows(contract, path)
    # Our own services are never behind a proxy of the environment.
    with Client(here.platform.router.url(contract.model), timeout_s=30, trust_env=False) as client:
        answer = client.predict(contract.model, rows, version=version).to_dict()
    if as_json:
        data(answer)
        return
    items = answer["predictions"]
    heads = tuple(items[0])
    table(tuple(head.upper() for head in (*heads, "version")), [(*item.values(), answer["version"]) for item in items])


def read_rows(contract: Contract, path: Path) -> list[dict[str, Any]]:
    """Rows of a file, typed by the contract.

    Raises:
        UsageError: there is no such file, or its kind is not known.
        DataError: the file is not what its name says.
    """
    if str(path) == "-":
        return _json_rows(sys.stdin.read(), "stdin")
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    try:
        match path.suffix:
            case ".json":
                return _json_rows(path.read_text(), str(path))
            case ".jsonl":
                return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
            case ".csv":
                return _csv_rows(contract, path.read_text(), path)
            case ".parquet":
                return _parquet_rows(contract, path)
    except (ValueError, OSError) as wrong:
        raise DataError(f"{path} can't be read as {path.suffix[1:]}: {wrong}") from wrong
    raise UsageError(f"{path}: rows come as .json, .jsonl, .csv or .parquet")


def _json_rows(text: str, source: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError as wrong:
        raise DataError(f"{source} is not JSON: {wrong}") from wrong
    rows = found.get("rows") if isinstance(found, dict) and "rows" in found else found
    if isinstance(rows, dict):
        return [rows]
    if not isinstance(rows, list):
        raise DataError(f'{source}: expected a list of rows, or {{"rows": [...]}}')
    return rows


def _csv_rows(contract: Contract, text: str, path: Path) -> list[dict[str, Any]]:
    features = {f.name: f for f in contract.features}
    rows = []
    for number, raw in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        unknown = sorted(str(name) for name in raw if name not in features and name not in contract.row_extras)
        if unknown:
            raise DataError(f"{path}: columns {unknown} are neither features nor keys of {contract.model}")
        typed = {n: _typed(features[n], v, f"{path}:{number}") for n, v in raw.items() if n in features}
        # An empty key is none.
        rows.append(typed | {name: raw[name] or None for name in contract.row_extras if name in raw})
    return rows


def _typed(feature: Feature, text: str | None, where: str) -> Any:
    if text is None or text == "":
        return None
    try:
        match feature.type:
            case "category":
                return text
            case "bool":
                return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            case "int":
                return int(text)
            case "float":
                return float(text)
    except (ValueError, KeyError) as wrong:
        raise DataError(f"{where}: {feature.name} is {text!r}, which is no {feature.type}") from wrong


def _parquet_rows(contract: Contract, path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    from headrace.learning import frames

    frame = pd.read_parquet(path)
    # What a view holds may be looked up.
    missing = sorted({f.name for f in contract.features if f.view is None} - set(frame.columns))
    if missing:
        raise DataError(f"{path} lacks the columns {missing}")
    rows = frames.rows(contract, frame)
    for name in contract.row_extras:
        if name in frame:
            for row, value in zip(rows, frame[name].tolist(), strict=True):
                row[name] = value
    return rows
