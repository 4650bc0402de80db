"""Triton's own client, unchanged, against a running service."""

import json
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.serving.service_process import Process

KINDS = {
    "wind_speed": ("FP32", np.float32),
    "distance": ("INT64", np.int64),
    "carrier": ("BYTES", np.object_),
    "is_holiday": ("BOOL", np.bool_),
    "gate": ("BYTES", np.object_),
}


def inputs(rows: list[dict], is_binary: bool) -> list[triton.InferInput]:
    made = []
    for name, (datatype, kind) in KINDS.items():
        values = np.array([row[name] for row in rows], dtype=kind).reshape(-1, 1)
        made.append(triton.InferInput(name, list(values.shape), datatype))
        made[-1].set_data_from_numpy(values, binary_data=is_binary)
    return made


def by_rows(running: Process, rows: list[dict]) -> list[float]:
    """What the rows API answers."""
    with closing(running.connect()) as connection:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/models/flight_delay/predict", json.dumps({"rows": rows}), headers)
        return [one["probability"] for one in json.loads(connection.getresponse().read())["predictions"]]


@pytest.fixture
def client(running: Process) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{running.port}") as one:
        yield one


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("flight_delay", "3")
    assert not client.is_model_ready("flight_delay", "4")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("flight_delay")["versions"] == ["3"]


@pytest.mark.parametrize("is_binary", [False, True])
@pytest.mark.parametrize("wants_binary", [None, False, True])
def test_infer_gives_what_the_rows_api_gives(client, running, make_rows, is_binary, wants_binary):
    rows = [row | {"recent_delay": None, "gate": "north"} for row in make_rows(5)]
    outputs = None
    if wants_binary is not None:
        outputs = [triton.InferRequestedOutput("probabilities", binary_data=wants_binary)]
    answer = client.infer("flight_delay", inputs(rows, is_binary), outputs=outputs, request_id="a1")
    assert answer.get_response()["id"] == "a1"
    assert answer.as_numpy("probabilities")[:, 1].tolist() == by_rows(running, rows)


def test_refusal_is_the_clients_exception(client, make_rows):
    with pytest.raises(InferenceServerException, match="input 'carrier' is required"):
        client.infer("flight_delay", inputs(make_rows(1), True)[:2])
