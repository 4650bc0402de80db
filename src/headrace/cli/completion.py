"""`headrace completion`."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script of SHELL; for bash: eval "$(headrace completion bash)"."""
    from headrace.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choices above are the ones that click has
    click.echo(kind(cli, {}, "headrace", "_HEADRACE_COMPLETE").source())
