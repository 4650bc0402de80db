"""Calls to a supervisord over its unix socket."""

import http.client
import os
import socket
import tempfile
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from headrace.errors import Unavailable

BAD_NAME, ALREADY_STARTED, NOT_RUNNING, ALREADY_ADDED = 10, 60, 70, 90

# The kernel's limit is 108 bytes on Linux, 104 elsewhere, and supervisord adds its pid while it binds.
_ADDRESS_BYTES = 90


class DaemonDown(Unavailable):
    """Nothing listens at the socket."""


class Control:
    """The XML-RPC interface of one supervisord."""

    def __init__(self, address: Path) -> None:
        self.address = address

    def call(self, method: str, *arguments: Any, timeout_s: float = 10.0) -> Any:
        """Call a method of supervisord's interface.

        Raises:
            xmlrpc.client.Fault: supervisord refuses; the code says why.
            DaemonDown: nothing listens.
            Unavailable: no answer in time.
        """
        transport = _Transport(self.address, timeout_s)
        server = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
        try:
            return getattr(server, f"supervisor.{method}")(*arguments)
        except (FileNotFoundError, ConnectionRefusedError) as down:
            raise DaemonDown(f"no supervisord listens at {self.address}; run `headrace up`") from down
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError, ExpatError) as failed:
            raise Unavailable(
                f"supervisord at {self.address} gave no answer to {method} within {timeout_s:g} s "
                f"({type(failed).__name__}); `headrace down` ends it in any case"
            ) from failed
        finally:
            transport.close()


class _Transport(xmlrpc.client.Transport):
    def __init__(self, address: Path, timeout_s: float) -> None:
        super().__init__()
        self._address = address
        self._timeout_s = timeout_s

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._address, self._timeout_s)
        self._connection = host, connection  # what `close` closes
        return connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, address: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short(self._address) as address:
            self.sock.connect(address)


@contextmanager
def short(address: Path) -> Iterator[str]:
    """The address, or for as long as needed a link to it: a deep path does not fit into a socket address."""
    if len(os.fsencode(address)) <= _ADDRESS_BYTES:
        yield str(address)
        return
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        link = Path(folder) / "s"
        link.symlink_to(address.parent)
        yield str(link / address.name)
