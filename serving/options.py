"""The flags of ``python -m serving``."""

import argparse
from pathlib import Path

from serving.limits import Limits


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    limits = Limits()
    made = argparse.ArgumentParser(
        prog="python -m serving",
        description="Put the model in a directory in service.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = made.add_argument
    add("--directory", type=Path, required=True, help="the model directory: manifest.json and what it lists")
    add("--port", type=_port, required=True, help="port to listen on; 0 takes any, and the log says which")
    add("--host", default="127.0.0.1", help="address to listen on; put a proxy in front before it is not loopback")
    add("--workers", type=_positive, default=1, help="processes that answer, each one core's worth")
    add("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="least level to log")
    add("--max-body-bytes", type=_positive, default=limits.body_bytes, help="largest request body")
    add("--max-rows", type=_positive, default=limits.rows, help="most rows, or labels, in one request")
    add("--max-in-flight", type=_positive, default=limits.in_flight, help="most requests at once, for each worker")
    add("--drain-s", type=_seconds, default=1.0, help="seconds between SIGTERM, when it says unready, and closing")
    add("--prediction-log", type=Path, help="folder for every prediction, and for labels; without it, neither is kept")
    add("--prediction-log-to", default="", help="folder or s3:// URL for their segments, instead of the same folder")
    add("--prediction-log-rotate-s", type=_seconds, default=60.0, help="a segment has at most so many seconds")
    add("--online-store", help="where rows are completed from: sqlite:///path?project=NAME or redis://…")
    add("--online-deadline-ms", type=_positive, default=50, help="how long a request may wait for the online store")
    add("--public-key", type=Path, help="PEM file: serve only what is signed with its key")
    add("--otlp-endpoint", type=_url, help="where spans are sent, e.g. http://127.0.0.1:4318/v1/traces")
    return made


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 to 65535")
    return int(text)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL: give one such as http://127.0.0.1:4318/v1/traces")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return seconds
