"""Nothing of the platform listens beyond this machine without authentication; on one machine, nothing does at all."""

import ipaddress
import socket
import stat

import psutil

from headrace.adapters.local import mlflow_server
from headrace.adapters.local.laptop import Laptop
from tests.contract.conftest import eventually
from tests.faults.house import House


def listeners(house: House) -> set[tuple[str, int]]:
    """Address and port of every socket that waits for others, TCP or UDP."""
    found = set()
    for process in house.all_processes():
        for connection in process.net_connections(kind="inet"):
            waits = connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
            if waits and connection.laddr:
                found.add((connection.laddr.ip, connection.laddr.port))
    return found


def test_every_listener_of_every_program_is_on_loopback(house: House) -> None:
    settings = house.settings
    Laptop(settings, house.processes).start()
    expected = {settings.http_port, settings.admin_port, settings.mlflow_port, settings.release_ports}
    try:
        eventually(lambda: expected <= {port for _, port in listeners(house)}, timeout_s=120)
        found = listeners(house)
        print(sorted(found))
        beyond = [address for address in found if not ipaddress.ip_address(address[0]).is_loopback]
        assert beyond == []
    finally:
        house.processes.remove(mlflow_server.NAME)


def test_every_unix_socket_is_for_its_owner_only(house: House) -> None:
    found = [path for path in house.settings.home.rglob("*") if path.is_socket()]
    assert [path.name for path in found] == ["supervisor.sock"]
    for path in (*found, *(path.parent for path in found)):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
