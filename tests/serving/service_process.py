"""The service in a process of its own."""

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

DEADLINE_S = 30


class Process:
    """A running service; its log is read as it comes, so that the pipe never fills.

    Args:
        directory: what it serves.
        options: further flags.
        port: to listen on; 0 is any.
        before: a command that runs it, such as setpriv with its options.
        own_group: whether it leads a process group, so that the group can be signalled.
    """

    def __init__(
        self, directory: Path, *options: str, port: int = 0, before: Sequence[str] = (), own_group: bool = False
    ):
        command = [sys.executable, "-m", "serving", "--directory", str(directory), "--port", str(port), *options]
        self.process = subprocess.Popen(
            [*before, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0 if own_group else None,
        )
        self.events: list[dict] = []
        self.port = 0
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            # What ends a process is said in plain words.
            event = json.loads(line) if line.startswith("{") else {"event": line.strip(), "logger": "", "level": ""}
            self.events.append(event)
            if event["event"] == "listening":
                self.port = event["port"]
                self._listening.set()

    def until_listening(self) -> "Process":
        assert self._listening.wait(DEADLINE_S), self.events
        return self

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)

    def get(self, path: str) -> tuple[int, bytes]:
        with closing(self.connect()) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def stop(self, sig: int = signal.SIGTERM) -> int:
        self.process.send_signal(sig)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def close(self) -> None:
        self.process.stdout.close()
        self.process.stderr.close()
