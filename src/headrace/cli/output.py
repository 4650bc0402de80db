"""How commands talk: data on stdout, everything else on stderr, colour and movement only on a terminal."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from headrace.ports import StepEvent

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


def talk(text: str = "", *, fg: str | None = None, bold: bool = False) -> None:
    """Say something to the person at the terminal."""
    click.echo(click.style(text, fg=fg, bold=bold) if fg or bold else text, err=True)


def data(value: Any) -> None:
    """Print what was asked for, as JSON."""
    click.echo(json.dumps(value, indent=1, default=str))


def table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print rows in columns on stdout."""
    cells = [heads, *[tuple("-" if cell is None else str(cell) for cell in row) for row in rows]]
    widths = [max(len(row[at]) for row in cells) for at in range(len(heads))]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


class Steps:
    """Shows steps as they go: a line for each that moves on a terminal, plain lines otherwise."""

    def __init__(self) -> None:
        self._moving = sys.stderr.isatty()
        self._began = time.monotonic()
        self._status: Any = None

    def follow(self, event: StepEvent) -> None:
        """Show one event."""
        match event.state:
            case "started":
                self._show(f"{event.step} ...")
            case "progress":
                self._line(f"    {event.message}")
            case "succeeded":
                self._line(f"  {_mark('✓', 'green')} {event.step:<9} {event.elapsed_s:6.1f} s")
            case "failed":
                self._line(f"  {_mark('✗', 'red')} {event.step:<9} {event.elapsed_s:6.1f} s")

    @contextmanager
    def doing(self, step: str) -> Iterator[Callable[[str], None]]:
        """Show something that this process does itself as a step; yields how to report progress."""
        began = time.monotonic()
        self.follow(StepEvent(step, "started"))
        try:
            yield lambda message: self.follow(StepEvent(step, "progress", message))
        except BaseException:
            self.follow(StepEvent(step, "failed", elapsed_s=time.monotonic() - began))
            raise
        finally:
            self.close()
        self.follow(StepEvent(step, "succeeded", elapsed_s=time.monotonic() - began))
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _show(self, text: str) -> None:
        if not self._moving:
            return
        self.close()
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        # Not `Console.status`: it takes stdout over, and with it the events of the steps.
        self._status = Live(
            Spinner("dots", text),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._status.start()

    def _line(self, text: str) -> None:
        if self._status is None:
            talk(text)
            return
        self._status.stop()
        talk(text)
        self._status.start()


def _mark(sign: str, colour: str) -> str:
    return click.style(sign, fg=colour)
