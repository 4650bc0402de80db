"""A service process, put together from its options."""

import argparse
import gc
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from serving.limits import Limits
from serving.workers import Workers, hold_signals

if TYPE_CHECKING:
    from serving.desk import Desk
    from serving.model import LoadedModel

_log = logging.getLogger("headrace.serving")

# A thread of the prediction log lets the event loop in within this, seconds; by default it is ten times as long.
_SWITCH_S = 0.0005


def serve(options: argparse.Namespace) -> int:
    """Serve in this process until a signal says stop; the exit code."""
    from serving.server import bind

    return _work(options, lambda: bind(options.host, options.port), None, lambda: None)


def serve_with_workers(options: argparse.Namespace) -> int:
    """Serve with several processes until a signal says stop; the exit code."""
    # A signal that comes while this process prepares waits until there is somebody who can clean up.
    hold_signals()
    shared = _shared_folder()
    # prometheus-client looks at it when it is first imported, which is below.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
    try:
        from prometheus_client import multiprocess, values

        from serving.server import bind

        listener = bind(options.host, options.port)
        # What was imported is shared with the workers, as long as no collector touches it.
        gc.freeze()
        parent = os.getpid()

        def work(place: int, started: Callable[[], object]) -> int:
            # What a worker counts is in files that outlive it. By its place and not by its process id, the next one
            # goes on in them: there are never more, however many workers end.
            values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
            try:
                return _worker(options, listener, shared, started)
            finally:
                if os.getppid() != parent:
                    # It was killed, and can't do it any more.
                    shutil.rmtree(shared, ignore_errors=True)

        gone = partial(multiprocess.mark_process_dead, path=shared)
        return Workers(options.workers, work, gone, stopping=listener.close).run()
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def _shared_folder() -> str:
    from headrace.errors import UsageError

    try:
        return tempfile.mkdtemp(prefix="headrace-metrics-")
    except OSError as refused:
        raise UsageError(
            "several workers count in a temporary folder, and none can be written to: "
            "set TMPDIR to one, or use --workers 1"
        ) from refused


def _worker(options: argparse.Namespace, listener: socket.socket, shared: str, started: Callable[[], object]) -> int:
    from headrace.errors import HeadraceError

    try:
        return _work(options, lambda: listener, shared, started)
    except HeadraceError as problem:
        print(f"headrace: {problem}", file=sys.stderr, flush=True)
        return problem.exit_code


def _work(
    options: argparse.Namespace,
    listen: Callable[[], socket.socket],
    shared: str | None,
    started: Callable[[], object],
) -> int:
    from serving.app import release
    from serving.front import Front
    from serving.server import DrainingServer

    # Until the server can answer to it; a directory may be told to be another one before this one is read.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    model = _load(options)
    listener = listen()
    desk = _desk(options, shared, model.name)
    front = Front(release(model, desk))
    server = DrainingServer(front, options.drain_s, lambda: release(_load_again(options, model.name), desk), started)
    flush: Callable[[], object] = lambda: None  # noqa: E731
    if options.otlp_endpoint:
        from serving.tracing import traced

        server.config.app, flush = traced(front, options.otlp_endpoint)
    sys.setswitchinterval(_SWITCH_S)
    # What was loaded stays: the collector need not look at it again.
    gc.freeze()
    try:
        server.run(sockets=[listener])
    finally:
        server.look_after()
        if not desk.close():
            _log.warning("the log is not written whole; the next start makes segments of what is left")
        flush()
    fields = {"model": model.name, "version": front.service.model.version}
    _log.info("stopped", extra={"fields": fields})
    return 130 if server.interrupted else 0


def _load(options: argparse.Namespace) -> "LoadedModel":
    from serving.loading import load

    # Of a link that is put elsewhere meanwhile, all files are still of one directory.
    return load(Path(os.path.realpath(options.directory)), options.public_key)


def _load_again(options: argparse.Namespace, model: str) -> "LoadedModel":
    """What the directory holds now, if it is a version of the same model."""
    from headrace.errors import UsageError

    found = _load(options)
    if found.name != model:
        raise UsageError(
            f"{options.directory} is of {found.name} now: a service keeps its model, {model}; start another service"
        )
    return found


def _desk(options: argparse.Namespace, shared: str | None, model: str) -> "Desk":
    from serving.desk import Desk
    from serving.label_log import LabelLog
    from serving.metrics import Families
    from serving.online_store import open_store
    from serving.prediction_log import LogOptions, PredictionLog

    # Before the log, which starts a thread and a process.
    store = open_store(options.online_store) if options.online_store else None
    limits = Limits(body_bytes=options.max_body_bytes, rows=options.max_rows, in_flight=options.max_in_flight)
    families = Families(shared)
    log = labels = None
    if options.prediction_log is not None:
        log_options = LogOptions(
            options.prediction_log.absolute(), options.prediction_log_to, options.prediction_log_rotate_s
        )
        log = PredictionLog(log_options, families)
        labels = LabelLog(log_options.spool, model, log_options.rotate_s)
    return Desk(limits, families, log, labels, store, options.online_deadline_ms / 1000)
