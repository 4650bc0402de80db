import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from serving.app import front
from serving.desk import Desk
from serving.limits import Limits
from serving.loading import load

PATH = "/v1/models/flight_delay/predict"


def samples(client: TestClient) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


class StubSession:
    """Stands in for ONNX: answers what it is told to, when it is told to."""

    def __init__(self, output=None, gate: threading.Event | None = None):
        self.output, self.gate, self.started = output, gate, threading.Event()

    def run(self, matrix):
        self.started.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        if isinstance(self.output, Exception):
            raise self.output
        return np.full((len(matrix), 2), 0.5, dtype=np.float32) if self.output is None else self.output


def test_answers_what_the_library_predicted(task, make_client, directories: dict[str, Path]):
    golden = json.loads((directories[task] / "golden.json").read_text())
    with make_client(task) as client:
        answer = client.post(PATH, json={"rows": golden["rows"]})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["model"], body["version"]) == ("flight_delay", 3)
    key = {"binary": "probability", "multiclass": "probabilities", "regression": "value"}[task]
    assert all(item.keys() == {"id", key} for item in body["predictions"])
    values = [item[key] for item in body["predictions"]]
    if task == "multiclass":
        assert all(list(value) == ["early", "on_time", "late"] for value in values)
        values = [list(value.values()) for value in values]
    np.testing.assert_allclose(values, golden["predictions"], rtol=1e-4, atol=1e-5)
    assert len({item["id"] for item in body["predictions"]}) == len(golden["rows"])


def test_large_batch_in_a_thread_answers_like_small_ones(client, make_rows):
    rows = make_rows(3000, seed=1)
    small = [client.post(PATH, json={"rows": [row]}).json()["predictions"][0]["probability"] for row in rows[:20]]
    large = [item["probability"] for item in client.post(PATH, json={"rows": rows}).json()["predictions"]]
    assert len(rows) > client.app.service.model.inline_rows
    np.testing.assert_allclose(large[:20], small, atol=1e-6)


def test_order_of_features_does_not_matter_and_optional_ones_may_be_left_out(client, make_rows):
    row = make_rows(1)[0] | {"recent_delay": None, "gate": None}
    short = {name: row[name] for name in reversed(row) if row[name] is not None}
    first, second = client.post(PATH, json={"rows": [row, short]}).json()["predictions"]
    assert first["probability"] == second["probability"]


def test_unknown_model_path_and_method_have_the_error_form(client):
    for path in ("/v1/models/other/predict", "/", "/v1/models/flight_delay/predict/", "/%00"):
        answer = client.post(path, json={"rows": []})
        assert answer.status_code == 404
        assert answer.json().keys() == {"error"}
        assert "flight_delay" in answer.json()["error"]
    wrong_method = client.get(PATH)
    assert wrong_method.status_code == 405
    assert wrong_method.headers["allow"] == "POST"
    assert wrong_method.json().keys() == {"error"}


def test_every_answer_has_the_headers(client):
    for answer in (client.get("/v2"), client.get("/nothing"), client.post(PATH, content=b"x")):
        assert answer.headers["headrace-version"] == "3"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize(("given", "kept"), [("a-B_9.x", True), ("x" * 64, True), ("x" * 65, False), ("a b", False)])
def test_request_id_is_kept_when_it_is_short_and_plain(client, given, kept):
    assert (client.get("/v2", headers={"X-Request-ID": given}).headers["x-request-id"] == given) is kept


def test_health_and_metadata(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/flight_delay/ready").json() == {"name": "flight_delay", "ready": True}
    assert client.get("/v2").json()["name"] == "headrace"
    metadata = client.get("/v2/models/flight_delay").json()
    assert metadata["versions"] == ["3"]
    assert {"name": "carrier", "datatype": "BYTES", "shape": [-1]} in metadata["inputs"]


def test_draining_is_unready_and_still_answers(client, make_rows):
    client.app.service.drain()
    for path in ("/v2/health/ready", "/v2/models/flight_delay/ready"):
        assert client.get(path).status_code == 503
        assert "draining" in client.get(path).json()["error"]
    assert client.get("/v2/health/live").status_code == 200
    answer = client.post(PATH, json={"rows": make_rows(1)})
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    assert samples(client)['headrace_ready{model="flight_delay",version="3"}'] == 0


def test_counts_requests_rows_and_values_out_of_range(client, make_rows):
    rows = make_rows(3)
    rows[0] |= {"wind_speed": 60.5}
    rows[1] |= {"wind_speed": 60, "distance": 49}
    rows[2] |= {"wind_speed": -1}
    client.post(PATH, json={"rows": rows})
    client.post(PATH, content=b"{", headers={"content-type": "application/json"})
    client.get("/v1/models/other/predict")
    found = samples(client)
    release = 'model="flight_delay",version="3"'
    assert found['headrace_requests_total{model="flight_delay",status="200",version="3"}'] == 1
    assert found['headrace_requests_total{model="flight_delay",status="400",version="3"}'] == 1
    assert not any("404" in name or "405" in name for name in found)
    assert found[f"headrace_rows_total{{{release}}}"] == 3
    assert found[f"headrace_request_duration_seconds_count{{{release}}}"] == 2
    assert found[f"headrace_ready{{{release}}}"] == 1
    assert found[f'headrace_out_of_range_total{{feature="wind_speed",{release}}}'] == 2
    assert found[f'headrace_out_of_range_total{{feature="distance",{release}}}'] == 1
    assert found[f'headrace_out_of_range_total{{feature="carrier",{release}}}'] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_output_that_is_no_number_is_an_error_and_is_counted(directories, make_rows, value):
    output = np.array([[0.5, 0.5], [0.5, value], [value, value]], dtype=np.float32)
    app = front(replace(load(directories["binary"]), session=StubSession(output)))
    with TestClient(app) as client:
        answer = client.post(PATH, json={"rows": make_rows(3)})
        assert answer.status_code == 500
        assert answer.json() == {"error": "the model has no finite answer for rows[1]"}
        assert samples(client)['headrace_nonfinite_outputs_total{model="flight_delay",version="3"}'] == 2


def test_failing_model_is_a_500_that_says_nothing_of_the_values(directories, make_rows, caplog):
    app = front(replace(load(directories["binary"]), session=StubSession(RuntimeError("secret 42"))))
    with TestClient(app) as client:
        answer = client.post(PATH, json={"rows": make_rows(1)})
        assert answer.status_code == 500
        assert answer.json().keys() == {"error"}
        assert samples(client)['headrace_requests_total{model="flight_delay",status="500",version="3"}'] == 1
    assert [record.fields["kind"] for record in caplog.records if record.levelname == "ERROR"] == ["RuntimeError"]
    assert "secret" not in answer.text + caplog.text


def test_busy_model_leaves_liveness_alone_and_more_requests_are_turned_away(directories, make_rows):
    gate = threading.Event()
    session = StubSession(gate=gate)
    app = front(replace(load(directories["binary"]), session=session, inline_rows=0), Desk(Limits(in_flight=2)))
    with TestClient(app) as client, ThreadPoolExecutor(2) as pool:
        body = {"rows": make_rows(1)}
        waiting = [pool.submit(client.post, PATH, json=body)]
        assert session.started.wait(20)
        waiting.append(pool.submit(client.post, PATH, json=body))
        refused = _until_refused(client, body)
        assert refused.headers["retry-after"] == "1"
        assert refused.json().keys() == {"error"}
        assert client.get("/v2/health/live").status_code == 200
        gate.set()
        assert [one.result(20).status_code for one in waiting] == [200, 200]
        assert client.post(PATH, json=body).status_code == 200


def _until_refused(client: TestClient, body) -> httpx.Response:
    """The second request may not have arrived yet; a third that gets its place waits for the gate, so ask with none."""
    for _ in range(10_000):
        if client.app.service.desk.in_flight == 2:
            return client.post(PATH, json=body)
        client.get("/v2/health/live")
    raise AssertionError("the second request never arrived")
