"""The command line: thin verbs. Data goes to stdout, talk to stderr.

Nothing heavy is imported here: `headrace --help` has to answer at once.
"""

import signal
import sys
import traceback
from typing import Any

import click

from headrace import __version__
from headrace.errors import HeadraceError, no_room

CONTEXT = "headrace.context"
# Command to the module that holds it, imported when the command is used, and what --help says of it.
_COMMANDS = {
    "up": ("headrace.cli.up", "Put models in service on this machine; changes nothing when they are"),
    "down": ("headrace.cli.up", "Stop everything that `up` started"),
    "run": ("headrace.cli.run", "Run the pipeline: prepare, train, evaluate, register, deploy"),
    "schedule": ("headrace.cli.schedule", "Run pipelines by the clock, in a cluster"),
    "rollout": ("headrace.cli.rollout", "See and steer the rollout of a new version"),
    "rollback": ("headrace.cli.run", "Give all traffic back to an earlier version, at once"),
    "status": ("headrace.cli.status", "What runs, which version answers, and the last verdict"),
    "doctor": ("headrace.cli.doctor", "Check this machine: OK, WARN or FAIL with the fix"),
    "predict": ("headrace.cli.predict", "Ask a model in service for predictions"),
    "models": ("headrace.cli.registry", "List the models and their registered versions"),
    "lineage": ("headrace.cli.registry", "What made a version: code, data, parameters, features, environment"),
    "logs": ("headrace.cli.logs", "Show the logs of the platform and the services"),
    "open": ("headrace.cli.logs", "Open the MLflow page, the last report or rollout, or the API page in a browser"),
    "completion": ("headrace.cli.completion", "Print the completion script of a shell"),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        from importlib import import_module

        found: click.Command = getattr(import_module(_COMMANDS[name][0]), f"{name}_command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headrace")
@click.option("--context", type=click.Choice(["local", "cluster"]), help="This machine, or KUBECONFIG's cluster.")
@click.pass_context
def cli(here: click.Context, context: str | None) -> None:
    """The MLOps loop as code: build, evaluate, deploy, monitor and retrain models.

    Exit codes: 0 done, also when the gate keeps the champion; 1 failed; 2 wrong command or configuration; 3 wrong or
    missing data; 4 something needed does not answer; 5 somebody else is at it; 6 a file is not the recorded one;
    7 not promoted, or taken back, with --require-promotion; 130 interrupted.
    """
    here.meta[CONTEXT] = context or ""


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = cli.main(arguments, prog_name="headrace", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort:
        sys.exit(_say("interrupted: what was finished is kept, run the same command again to go on", 130))
    except KeyboardInterrupt:
        sys.exit(_say("interrupted: what was finished is kept, run the same command again to go on", 130))
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(2)
    except HeadraceError as failed:
        sys.exit(_say(f"error: {failed}", failed.exit_code))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as failed:
        full = no_room(failed)
        if full is None:
            raise
        sys.exit(_say(f"error: {full}", full.exit_code))
    except Exception:
        traceback.print_exc()
        sys.exit(_say("error: this is a defect of Headrace; the lines above say where", 1))


def _say(text: str, code: int) -> int:
    click.echo(text, err=True)
    return code


def _terminated(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
