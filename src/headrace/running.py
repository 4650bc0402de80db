"""What surrounds a step: its events on stderr, its end with its runner, its error as a value that the runner can raise.

A step runs in a process of its own. It says how it goes in JSON lines on stderr, one event each, which whoever
started it reads: the laptop's runner shows them, a cluster collects them.
"""

import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from headrace.errors import HeadraceError, Unavailable, no_room
from headrace.ports import StepEvent

EVENT = "headrace.step"
# "<pid>" of the runner, set by runners whose steps must not outlive them.
RUNNER_PID = "HEADRACE_RUN"
# The file in which a step leaves why it failed, for a runner that does not see its events.
FAILURE = "failure.json"


@dataclass(frozen=True)
class Failure:
    """Why a step failed; `error` is the class of what it raised."""

    step: str
    error: str
    message: str


_listener: Callable[[StepEvent], None] | None = None


@contextmanager
def heard_by(listener: Callable[[StepEvent], None]) -> Iterator[None]:
    """Hand events to `listener` instead, for a step that runs in its caller's process."""
    global _listener  # noqa: PLW0603 - as with logging handlers, one a process
    _listener = listener
    try:
        yield
    finally:
        _listener = None


def emit(event: StepEvent, error: str = "") -> None:
    """Write an event; `error` is the class of what a failed step raised."""
    if _listener is not None:
        _listener(event)
        return
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": EVENT,
        "step": event.step,
        "state": event.state,
        "message": event.message,
        "elapsed_s": round(event.elapsed_s, 3),
        "error": error,
    }
    print(json.dumps(line), file=sys.stderr, flush=True)


def progress(step: str, message: str) -> None:
    """Say something worth knowing while a step runs."""
    emit(StepEvent(step, "progress", message))


def parse(line: str) -> tuple[StepEvent, str] | None:
    """The event in a line of output and its error class, or None when the line is something else."""
    start = line.find('{"time"')
    if start < 0:
        return None
    try:
        found = json.loads(line[start:])
    except ValueError:
        return None
    if found.get("event") != EVENT:
        return None
    return StepEvent(found["step"], found["state"], found["message"], found["elapsed_s"]), found["error"]


@contextmanager
def step(name: str) -> Iterator[None]:
    """Run a step's body: started, then succeeded or failed, with the time that it took."""
    began = time.monotonic()
    _end_with_runner()
    emit(StepEvent(name, "started"))
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except HeadraceError as failed:
        _fail(name, began, failed)
        sys.exit(failed.exit_code)
    except BaseException as failed:
        error = in_our_words(failed)
        _fail(name, began, error)
        if isinstance(error, Unavailable):
            sys.exit(error.exit_code)
        raise
    emit(StepEvent(name, "succeeded", elapsed_s=time.monotonic() - began))
    # The process ends now. Collecting what the libraries have made would take it most of a second.
    gc.freeze()


def in_our_words(failed: BaseException) -> HeadraceError:
    """What a step's exception is to the user."""
    if isinstance(failed, HeadraceError):
        return failed
    full = no_room(failed) if isinstance(failed, OSError) else None
    return full or HeadraceError(f"{type(failed).__name__}: {failed}")


def _fail(name: str, began: float, error: HeadraceError) -> None:
    emit(StepEvent(name, "failed", str(error), time.monotonic() - began), type(error).__name__)


def _end_with_runner() -> None:
    """Leave with the runner: a step whose runner was killed would go on writing for nobody."""
    runner = os.environ.get(RUNNER_PID, "")
    if runner.isdigit():
        threading.Thread(target=_watch, args=(int(runner),), daemon=True).start()


def _watch(runner: int) -> None:
    while _alive(runner):
        time.sleep(0.5)
    os._exit(130)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
