"""``python -m serving --directory DIRECTORY``: put the model in a directory in service."""

import argparse
import gc
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace import telemetry
from headrace.errors import HeadraceError
from serving.app import create_app
from serving.limits import Limits
from serving.loading import load
from serving.server import DrainingServer, bind

_log = logging.getLogger("headrace.serving")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal says stop.

    Returns:
        The exit code: 0 after SIGTERM, 130 after Ctrl-C, else that of the error in `headrace.errors`.
    """
    options = _parser().parse_args(arguments)
    telemetry.configure(options.log_level)
    try:
        return _serve(options)
    except HeadraceError as problem:
        print(f"headrace: {problem}", file=sys.stderr)
        return problem.exit_code


def _serve(options: argparse.Namespace) -> int:
    model = load(options.directory)
    listener = bind(options.host, options.port)
    limits = Limits(body_bytes=options.max_body_bytes, rows=options.max_rows, in_flight=options.max_in_flight)
    server = DrainingServer(create_app(model, limits), options.drain_s)
    # What was loaded stays: the collector need not look at it again.
    gc.freeze()
    server.run(sockets=[listener])
    _log.info("stopped", extra={"fields": {"model": model.name, "version": model.version}})
    return 130 if server.interrupted else 0


def _parser() -> argparse.ArgumentParser:
    limits = Limits()
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="Put the model in a directory in service.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--directory", type=Path, required=True, help="the model directory: manifest.json and what it lists")
    add("--port", type=_port, required=True, help="port to listen on; 0 takes any, and the log says which")
    add("--host", default="127.0.0.1", help="address to listen on; put a proxy in front before it is not loopback")
    add("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="least level to log")
    add("--max-body-bytes", type=_positive, default=limits.body_bytes, help="largest request body")
    add("--max-rows", type=_positive, default=limits.rows, help="most rows in one request")
    add("--max-in-flight", type=_positive, default=limits.in_flight, help="most predict requests at once")
    add("--drain-s", type=_seconds, default=1.0, help="seconds between SIGTERM, when it says unready, and closing")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 600")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
