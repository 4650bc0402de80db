"""What `up` runs inside the node's namespaces: `python -m tests.cluster.node.boot '{"name": …}'`.

It starts the components, waits until the node is ready, and ends. They become children of the node's first process.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from headrace.adapters.local.leftovers import PROGRAM_MARK
from tests.cluster.node import images, network, toolchain
from tests.cluster.node.components import CONTROLLERS, STORE, commands
from tests.cluster.node.place import DNS_SERVICE, NODE_NAME, Node, NodeError
from tests.cluster.node.programs import attempt, run

_DEADLINE_S = 90.0
_LOG_LINES = 15
_POLL_S = 0.05
# kubelet insists on these, which are the whole machine's: it gets to see files of ours instead.
_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
_DNS_QUESTION = (
    struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0)
    + b"".join(bytes([len(label)]) + label for label in b"kubernetes.default.svc.cluster.local".split(b"."))
    + struct.pack(">BHH", 0, 1, 1)
)


class _Boot:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._commands = commands(node)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._complaint = ""
        self._deadline = time.monotonic() + _DEADLINE_S

    def run(self) -> None:
        _own_folders(self._node)
        network.close()
        self._start(STORE)
        self._await("containerd", "containerd answers", lambda: images.answers(self._node))
        for name in ("pause", "coredns"):
            images.load(toolchain.archive(name), self._node)
        self._await("kube-apiserver", "the API server is ready", lambda: self._kubectl("get", "--raw=/readyz"))
        self._start(CONTROLLERS)
        manifests = (Path(__file__).with_name("manifests"), toolchain.crds())
        files = [f"--filename={folder}" for folder in manifests]
        apply = ("apply", "--server-side", *files)
        self._await("kube-apiserver", "the API server takes manifests", lambda: self._kubectl(*apply))
        ready = "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        self._await("kubelet", "the node is ready", lambda: self._kubectl("get", "node", NODE_NAME, ready) == "True")
        self._await("kube-proxy", "cluster DNS answers", _dns_answers)

    def _start(self, names: tuple[str, ...]) -> None:
        for name in names:
            with (self._node.logs / f"{name}.log").open("wb") as log:
                self._running[name] = subprocess.Popen(
                    self._commands[name],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, PROGRAM_MARK: name},
                    start_new_session=True,
                )

    def _kubectl(self, *arguments: str) -> str:
        """What it printed, or nothing if it failed: then what it complained of is kept for the error."""
        done = attempt("kubectl", f"--kubeconfig={self._node.kubeconfig}", "--request-timeout=10s", *arguments)
        self._complaint = done.stderr.strip()
        return "" if done.returncode else done.stdout or " "

    def _await(self, component: str, what: str, condition: Callable[[], object]) -> None:
        while not condition():
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise NodeError(f"{name} ended with {process.returncode}: {self._last_words(name)}")
            if time.monotonic() > self._deadline:
                words = self._last_words(component)
                raise NodeError(f"not within {_DEADLINE_S:.0f} s: {what}. {self._complaint}\n{component}: {words}")
            time.sleep(_POLL_S)

    def _last_words(self, name: str) -> str:
        lines = (self._node.logs / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(["its last words:", *lines[-_LOG_LINES:]])


def _own_folders(node: Node) -> None:
    """Give this mount namespace its own /run, /var/lib and /var/log, so that nothing is written into the machine's."""
    own_run = node.state / "run"
    (own_run / node.name).mkdir(parents=True)
    run("mount", "--bind", node.state, own_run / node.name)
    run("mount", "--rbind", own_run, "/run")
    for folder in ("lib", "log"):
        upper, work = node.state / f"{folder}-upper", node.state / f"{folder}-work"
        upper.mkdir()
        work.mkdir()
        options = f"lowerdir=/var/{folder},upperdir={upper},workdir={work}"
        run("mount", "--types", "overlay", "--options", options, "overlay", f"/var/{folder}")
    for name, value in _SYSCTLS.items():
        file = node.state / name.replace("/", ".")
        file.write_text(value + "\n")
        run("mount", "--bind", file, f"/proc/sys/{name}")


def _dns_answers() -> bool:
    """Whether the API server's name resolves through the DNS service's address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        try:
            client.sendto(_DNS_QUESTION, (DNS_SERVICE, 53))
            reply = client.recv(512)
        except OSError:
            return False
    answer_count, no_error = struct.unpack(">H", reply[6:8])[0], reply[3] & 0xF == 0
    return bool(no_error and answer_count)


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        _Boot(Node(**json.loads(sys.argv[1]))).run()
    except NodeError as error:
        sys.exit(str(error))
