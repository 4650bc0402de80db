"""`headrace logs` and `headrace open`."""

import contextlib
import sys
import time
from pathlib import Path

import click

from headrace.cli.output import talk
from headrace.cli.session import Session, session
from headrace.errors import UsageError


@click.command("logs")
@click.argument("names", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("-n", "--lines", "line_count", default=20, show_default=True, help="Last lines of each.")
def logs_command(names: tuple[str, ...], follow: bool, line_count: int) -> None:
    """Show the logs of NAMES, such as mlflow, traefik or flight-delay-v1; of everything when none is named."""
    here = session()
    here.require_local()
    folder = here.settings.home / "logs"
    files = {path.stem: path for path in sorted(folder.glob("*.log"))}
    unknown = sorted(set(names) - set(files))
    if unknown:
        raise UsageError(f"there is no log of {', '.join(unknown)}; there are {', '.join(files) or 'none yet'}")
    chosen = {name: files[name] for name in names} if names else files
    places = {name: _show_last(name, path, line_count, len(chosen) > 1) for name, path in chosen.items()}
    with contextlib.suppress(KeyboardInterrupt):
        while follow:
            time.sleep(0.3)
            for name, path in chosen.items():
                places[name] = _show_new(name, path, places[name], len(chosen) > 1)


def _show_last(name: str, path: Path, line_count: int, named: bool) -> int:
    content = path.read_bytes()
    for line in content.decode(errors="replace").splitlines()[-line_count:] if line_count > 0 else []:
        click.echo(f"{name} | {line}" if named else line)
    return len(content)


def _show_new(name: str, path: Path, place: int, named: bool) -> int:
    size = path.stat().st_size if path.exists() else 0
    if size < place:  # rotated
        place = 0
    if size == place:
        return place
    with path.open("rb") as file:
        file.seek(place)
        whole = file.read().rpartition(b"\n")[0]
    for line in whole.decode(errors="replace").splitlines():
        click.echo(f"{name} | {line}" if named else line)
    return place + len(whole) + (1 if whole else 0)


@click.command("open")
@click.argument("what", type=click.Choice(["mlflow", "report", "rollout", "api"]))
@click.argument("model", required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the address and open nothing.")
def open_command(what: str, model: str | None, only_print: bool) -> None:
    """Open the MLflow page, the last report or rollout of MODEL, or the API page of its champion, in a browser."""
    here = session()
    address = _address(here, what, here.model(model or here.settings.models[0]))
    click.echo(address)
    if not only_print and sys.stdout.isatty() and click.launch(address) != 0:
        talk("no browser could be opened here: open the address above yourself")


def _address(here: Session, what: str, model: str) -> str:
    match what:
        case "mlflow":
            return here.settings.tracking_uri
        case "report":
            return f"file://{here.report(model)}"
        case "rollout":
            return f"file://{_rollout_page(here, model)}"
    route = here.platform.router.read(model)
    running = {e.version: e.url for e in here.platform.deployer.running(model)}
    if route is None or route.split.stable not in running:
        raise UsageError(f"{model} is not in service: headrace up {model}")
    return f"{running[route.split.stable]}/docs"


def _rollout_page(here: Session, model: str) -> Path:
    """The page of the last rollout, as it stands now."""
    from headrace.learning import rollout_page

    route = here.platform.router.read(model)
    if route is None or route.rollout is None:
        raise UsageError(f"{model} has had no rollout yet")
    state = route.rollout
    page = here.settings.home / "rollouts" / model / state.key / "rollout.html"
    if state.active or not page.exists():
        page.parent.mkdir(parents=True, exist_ok=True)
        looks = here.platform.journal.looks(model, state.key)
        page.write_text(rollout_page.render(model, state, looks), encoding="utf-8")
    return page
