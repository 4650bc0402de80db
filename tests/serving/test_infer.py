"""Infer requests that are answered."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.domain.encoding import encode
from serving.infer_request import parse_infer
from serving.limits import Limits
from tests.serving.oip import BASE, BINARY, INFER, binary_request, json_inputs, outputs, with_binary

PREDICT = "/v1/models/flight_delay/predict"
FINITE = st.floats(-1e6, 1e6)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "wind_speed": FINITE,
            "distance": st.integers(-(2**31), 2**31 - 1),
            "carrier": st.sampled_from(["AA", "DL", "UA"]),
            "is_holiday": st.booleans(),
            "recent_delay": st.none() | FINITE,
            "gate": st.sampled_from([None, "north", "south", "unknown", "é"]),
        }
    ),
    min_size=1,
    max_size=6,
)


def predicted(client, task, rows) -> np.ndarray:
    """What the rows API answers, in the shape of the output tensor."""
    items = client.post(PREDICT, json={"rows": rows}).json()["predictions"]
    match task:
        case "binary":
            second = np.float32([item["probability"] for item in items])
            return np.stack([1 - second, second], axis=1)
        case "multiclass":
            return np.float32([list(item["probabilities"].values()) for item in items])
    return np.float32([[item["value"]] for item in items])


def answered(answer) -> dict[str, np.ndarray]:
    assert answer.status_code == 200, answer.text
    return outputs(answer.content, answer.headers.get("inference-header-content-length"))


def test_rows_json_and_binary_give_the_same_predictions(make_client, task):
    name = "prediction" if task == "regression" else "probabilities"
    with make_client(task) as client:
        contract = client.app.service.model.contract

        @given(ROWS)
        @settings(max_examples=25, deadline=None)
        def same(rows):
            expected = predicted(client, task, rows)
            body, headers = binary_request(rows, parameters={"binary_data_output": True})
            matrix = encode(contract, {f: [row[f] for row in rows] for f in contract.feature_names})
            tensor = {"name": "features", "datatype": "FP32", "shape": list(matrix.shape)}
            size = {"parameters": {"binary_data_size": matrix.nbytes}}
            encoded, encoded_headers = with_binary({"inputs": [tensor | size]}, matrix.tobytes())
            nested = [[None if np.isnan(value) else value for value in row] for row in matrix.tolist()]
            for answer in (
                client.post(INFER, json={"inputs": json_inputs(rows)}),
                client.post(INFER, json={"inputs": json_inputs(rows, nested=True)}),
                client.post(INFER, content=body, headers=headers),
                client.post(INFER, content=encoded, headers=encoded_headers),
                client.post(INFER, json={"inputs": [tensor | {"data": nested}]}),
                client.post(INFER, json={"inputs": [tensor | {"data": [value for row in nested for value in row]}]}),
            ):
                np.testing.assert_array_equal(answered(answer)[name], expected)

        same()


def test_metadata_is_what_the_answer_has(make_client, make_rows, task):
    with make_client(task) as client:
        assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
        metadata = client.get(BASE).json()
        assert metadata == client.get(f"{BASE}/versions/3").json()
        answer = client.post(f"{BASE}/versions/3/infer", json={"id": "a1", "inputs": json_inputs(make_rows(4))}).json()
    assert metadata["platform"] == "onnx_onnxv1"
    assert [one["name"] for one in metadata["inputs"]] == list(make_rows(1)[0])
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("flight_delay", "3", "a1")
    listed = [(one["name"], one["datatype"], [4, one["shape"][1]]) for one in metadata["outputs"]]
    assert [(one["name"], one["datatype"], one["shape"]) for one in answer["outputs"]] == listed


def test_another_version_or_model_is_a_404_in_the_error_form(client, make_rows):
    for place in (f"{BASE}/versions/2", f"{BASE}/versions/x", f"{BASE}/versions/03", "/v2/models/other"):
        answers = [client.get(place), client.get(f"{place}/ready")]
        answers.append(client.post(f"{place}/infer", json={"inputs": json_inputs(make_rows(1))}))
        for answer in answers:
            assert answer.status_code == 404
            assert answer.json().keys() == {"error"}
            assert "flight_delay version 3" in answer.json()["error"]


def test_readiness_of_a_version_ends_with_draining(client):
    assert client.get(f"{BASE}/versions/3/ready").json() == {"name": "flight_delay", "ready": True}
    client.app.service.drain()
    assert client.get(f"{BASE}/versions/3/ready").status_code == 503


def test_each_prediction_has_an_id_of_its_own(client, make_rows):
    found = answered(client.post(INFER, json={"inputs": json_inputs(make_rows(5))}))["prediction_id"]
    assert found.shape == (5, 1)
    assert len({str(one) for one in found.ravel()}) == 5


@pytest.mark.parametrize("default", [None, False, True])
@pytest.mark.parametrize("names", [["prediction_id"], ["prediction_id", "probabilities"], ["probabilities"], []])
@pytest.mark.parametrize("own", [None, False, True])
def test_answer_has_the_outputs_asked_for_as_they_were_asked_for(client, make_rows, default, names, own):
    request = {
        "inputs": json_inputs(make_rows(3)),
        "outputs": [{"name": name, "parameters": {"binary_data": own}} for name in names],
        "parameters": {"binary_data_output": default, "timeout": 5},
    }
    answer = client.post(INFER, json=request)
    assert list(answered(answer)) == (names or ["probabilities", "prediction_id"])
    is_binary = bool(default if own is None or not names else own)
    assert ("inference-header-content-length" in answer.headers) is is_binary
    assert answer.headers["content-type"] == ("application/octet-stream" if is_binary else "application/json")


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT16", "INT32", "INT64", "UINT16", "UINT32", "UINT64"])
def test_every_datatype_that_holds_the_numbers_gives_the_same(client, make_rows, datatype):
    rows = [row | {"wind_speed": 12.0, "distance": 760, "recent_delay": 3.0} for row in make_rows(3)]
    kind = {"F": "f", "I": "i", "U": "u"}[datatype[0]] + str(int(datatype.lstrip("FPUINT")) // 8)
    inputs, blocks = json_inputs(rows), []
    for one in inputs:
        if one["name"] in ("wind_speed", "distance", "recent_delay"):
            blocks.append(np.array(one.pop("data")).astype(f"<{kind}").tobytes())
            one |= {"datatype": datatype, "parameters": {"binary_data_size": len(blocks[-1])}}
    # Binary and JSON inputs may be mixed.
    body, headers = with_binary({"inputs": inputs}, b"".join(blocks))
    found = answered(client.post(INFER, content=body, headers=headers))["probabilities"]
    np.testing.assert_array_equal(found, predicted(client, "binary", rows))


def test_inputs_may_come_in_any_order_and_optional_ones_be_left_out(client, make_rows):
    rows = [row | {"recent_delay": None, "gate": None} for row in make_rows(3)]
    inputs = [one for one in reversed(json_inputs(rows)) if one["name"] not in ("recent_delay", "gate")]
    found = answered(client.post(INFER, json={"inputs": inputs}))["probabilities"]
    np.testing.assert_array_equal(found, predicted(client, "binary", rows))


@pytest.mark.parametrize("headers", [BINARY, {"content-type": "application/json; charset=utf-8"}, {}])
def test_type_of_the_body_may_be_what_the_clients_say_or_nothing(client, make_rows, headers):
    body, declared = binary_request(make_rows(2))
    length = {"Inference-Header-Content-Length": declared["Inference-Header-Content-Length"]}
    assert client.post(INFER, content=body, headers=headers | length).status_code == 200


def test_infer_counts_and_says_what_predict_does(client, make_rows):
    rows = [make_rows(1)[0] | {"wind_speed": 61.0}] * 3
    body, headers = binary_request(rows)
    answer = client.post(INFER, content=body, headers=headers | {"X-Request-ID": "mine"})
    assert answer.headers["headrace-version"] == "3"
    assert answer.headers["x-request-id"] == "mine"
    client.post(INFER, content=b"{")
    metrics = client.get("/metrics").text
    release = 'model="flight_delay",version="3"'
    assert f"headrace_rows_total{{{release}}} 3.0" in metrics
    assert f'headrace_out_of_range_total{{feature="wind_speed",{release}}} 3.0' in metrics
    assert 'headrace_requests_total{model="flight_delay",status="200",version="3"} 1.0' in metrics
    assert 'headrace_requests_total{model="flight_delay",status="400",version="3"} 1.0' in metrics


def test_large_batch_in_a_thread_answers_like_small_ones(client, make_rows):
    rows = make_rows(3000, seed=1)
    body, headers = binary_request(rows)
    assert len(rows) > client.app.service.model.inline_rows
    large = answered(client.post(INFER, content=body, headers=headers))["probabilities"]
    np.testing.assert_allclose(large[:50], predicted(client, "binary", rows[:50]), atol=1e-6)


def test_feature_that_is_called_features_is_a_feature(client):
    contract = client.app.service.model.contract
    first = dataclasses.replace(contract.features[0], name="features")
    example = {"features" if name == first.name else name: value for name, value in contract.example.items()}
    example = {"features": 1.0} | {name: value for name, value in example.items() if name != "wind_speed"}
    named = dataclasses.replace(contract, features=(first, *contract.features[1:]), example=example)
    body = b'{"inputs": [{"name": "features", "shape": [1], "datatype": "FP32", "data": [1]}]}'
    assert parse_infer(body, None, named, Limits()).inputs["features"].shape == (1,)
