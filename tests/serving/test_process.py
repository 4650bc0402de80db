"""The service as a process: started, asked, told to stop."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from headrace.errors import UsageError
from serving.__main__ import main
from serving.server import bind
from tests.serving import oip
from tests.serving.service_process import DEADLINE_S, Process

PATH = "/v1/models/flight_delay/predict"
JSON = {"Content-Type": "application/json"}
FORBIDDEN = (
    *("sklearn", "pandas", "mlflow", "feast", "scipy", "kfp", "onnx", "joblib", "cloudpickle", "dill"),
    *("pyarrow", "opentelemetry.sdk", "model_signing"),
)


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts services, and leaves none behind."""
    started: list[Process] = []

    def start(*arguments, **options) -> Process:
        started.append(Process(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.wait()
        one.close()


def run(*options: str) -> subprocess.CompletedProcess:
    """A service that is expected to stop by itself."""
    command = [sys.executable, "-m", "serving", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in time"


def test_starts_answers_and_stops(start, directories, make_rows):
    service = start(directories["binary"]).until_listening()
    assert service.get("/v2/health/ready") == (200, b'{"ready":true}')
    with closing(service.connect()) as connection:
        connection.request("POST", PATH, json.dumps({"rows": make_rows(2)}), JSON)
        answer = connection.getresponse()
        assert answer.status == 200
        assert len(json.loads(answer.read())["predictions"]) == 2
        assert answer.getheader("Server") is None
    assert service.stop() == 0
    assert [event["event"] for event in service.events if event["logger"].startswith("headrace")] == [
        "listening",
        "draining",
        "stopped",
    ]
    assert service.process.stdout.read() == ""


def test_infer_takes_and_gives_binary_tensors(running, make_rows):
    rows = make_rows(3)
    body, headers = oip.binary_request(rows, id="a1", parameters={"binary_data_output": True})
    with closing(running.connect()) as connection:
        connection.request("POST", oip.INFER, body, headers)
        answer = connection.getresponse()
        length = answer.getheader("Inference-Header-Content-Length")
        content = answer.read()
        assert (answer.status, answer.getheader("Content-Type")) == (200, "application/octet-stream")
        found = oip.outputs(content, length)
        assert json.loads(content[: int(length)])["id"] == "a1"
        connection.request("POST", PATH, json.dumps({"rows": rows}), JSON)
        predictions = json.loads(connection.getresponse().read())["predictions"]
        assert found["probabilities"][:, 1].tolist() == [one["probability"] for one in predictions]
        # What is wrong with a request leaves the connection in order.
        connection.request("POST", oip.INFER, body[:-1], headers)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read()).keys()) == (400, {"error"})
        connection.request("POST", oip.INFER, body, headers)
        assert connection.getresponse().status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_folder_for_metrics_that_somebody_else_named_is_not_used(start, directories, tmp_path, monkeypatch, workers):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "nowhere"))
    service = start(directories["binary"], "--workers", workers, "--drain-s", "0").until_listening()
    until(lambda: b'headrace_ready{model="flight_delay",version="3"} 1.0' in service.get("/metrics")[1], "readiness")
    assert service.stop() == 0
    assert not (tmp_path / "nowhere").exists()


def test_answer_without_a_body_does_not_wait_for_one(running):
    with closing(running.connect()) as connection:
        # Were its head kept for a body, it would come when the connection is given up, and close with it.
        for path in (PATH, "/v2/health/ready"):
            connection.request("HEAD", path)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (405, b"")
            local = connection.sock
            assert local is not None
        connection.request("GET", "/v2/health/ready")
        assert connection.sock is local
        assert connection.getresponse().status == 200


def test_ctrl_c_is_exit_130(start, directories):
    assert start(directories["binary"], "--drain-s", "0").until_listening().stop(signal.SIGINT) == 130


def test_second_signal_does_not_wait(start, directories):
    service = start(directories["binary"], "--drain-s", "600").until_listening()
    service.process.send_signal(signal.SIGTERM)
    until(lambda: service.get("/v2/health/ready")[0] == 503, "unready")
    assert service.stop() == 0


def test_sigterm_under_load_answers_every_request(start, directories, make_rows):
    service = start(directories["binary"], "--drain-s", "2").until_listening()
    small, large = (json.dumps({"rows": make_rows(count)}).encode() for count in (1, 2000))
    told = threading.Event()

    def ask_until_told_to_leave(body: bytes) -> list[int]:
        connection, statuses = service.connect(), []
        while True:
            connection.request("POST", PATH, body, JSON)
            answer = connection.getresponse()
            assert len(json.loads(answer.read())["predictions"]) > 0
            statuses.append(answer.status)
            if answer.getheader("Connection") == "close":
                connection.close()
                told.set()
                return statuses

    slow = service.connect()
    slow.putrequest("POST", PATH)
    slow.putheader("Content-Type", "application/json")
    slow.putheader("Content-Length", str(len(large)))
    slow.endheaders(large[:1000])
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask_until_told_to_leave, body) for body in [small] * 6 + [large] * 2]
        until(lambda: b'status="200"' in service.get("/metrics")[1], "the first answer")
        service.process.send_signal(signal.SIGTERM)
        assert told.wait(DEADLINE_S)
        assert service.get("/v2/health/ready")[0] == 503
        assert service.get("/v2/health/live")[0] == 200
        statuses = [status for one in asking for status in one.result(DEADLINE_S)]
    until(lambda: refuses(service.port), "the end of listening")
    slow.send(large[1000:])
    assert slow.getresponse().status == 200
    slow.close()
    assert set(statuses) == {200}
    assert len(statuses) > 20
    assert service.wait() == 0


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_taken_port_is_said(running, directories):
    second = run("--directory", str(directories["binary"]), "--port", str(running.port))
    assert second.returncode == 5
    assert second.stderr == (
        f"headrace: port {running.port} on 127.0.0.1 is taken: stop what holds it, or name another with --port\n"
    )


def test_address_that_is_not_here_is_said():
    with pytest.raises(UsageError, match=r"can't listen on 192\.0\.2\.1 port 0: "):
        bind("192.0.2.1", 0)


def test_damaged_directory_is_said(directory: Path):
    with (directory / "model.onnx").open("ab") as file:
        file.write(b"x")
    refused = run("--directory", str(directory), "--port", "0")
    assert refused.returncode == 6
    assert refused.stderr.count("\n") == 1
    assert f"{directory}/model.onnx is not the recorded file: sha256 is " in refused.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ("--port", "70000"),
        ("--port", "-1"),
        ("--port", "0", "--max-rows", "0"),
        ("--port", "0", "--max-in-flight", "many"),
        ("--port", "0", "--drain-s", "nan"),
        (),
    ],
)
def test_wrong_flags_are_exit_2(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--directory", "somewhere", *flags])
    assert stopped.value.code == 2
    assert "usage: python -m serving" in capsys.readouterr().err


def test_41_megabytes_are_refused_and_not_held(running, make_rows):
    process = psutil.Process(running.process.pid)
    before = process.memory_info().rss
    megabyte = b" " * 1024 * 1024
    for headers in (JSON | {"Content-Length": str(41 * len(megabyte))}, JSON):
        with closing(running.connect()) as connection:
            connection.request("POST", PATH, (megabyte for _ in range(41)), headers)
            answer = connection.getresponse()
            assert answer.status == 413
            assert json.loads(answer.read()).keys() == {"error"}
            # The rest of the body is not taken for a request.
            connection.request("POST", PATH, json.dumps({"rows": make_rows(1)}), JSON)
            assert connection.getresponse().read().startswith(b'{"model"')
    assert process.memory_info().rss - before < 20 * 1024 * 1024


def test_client_that_leaves_in_the_middle_is_no_error(running):
    leaving = running.connect()
    leaving.putrequest("POST", PATH)
    leaving.putheader("Content-Type", "application/json")
    leaving.putheader("Content-Length", "1000")
    leaving.endheaders(b"{")
    leaving.close()
    until(lambda: b'status="400"' in running.get("/metrics")[1], "noticing")
    assert not [event for event in running.events if event["level"] in ("error", "critical")]


def test_serves_without_the_training_libraries(directories, make_rows):
    program = f"""
import sys
from pathlib import Path
import serving.running, serving.workers
from starlette.testclient import TestClient
from serving.app import front
from serving.loading import load
model = load(Path({str(directories["binary"])!r}))
with TestClient(front(model)) as client:
    for path, body in (({PATH!r}, {{"rows": {make_rows(2)!r}}}), ("/v1/models/flight_delay/labels", {{}})):
        client.post(path, json=body)
    client.get("/openapi.json").raise_for_status()
    client.get("/metrics").raise_for_status()
print([name for name in {FORBIDDEN!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    assert done.stdout == "[]\n"
