"""Whatever an infer request holds, the answer is a small 4xx in the error form, soon, and never repeats a value."""

import json
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serving.app import front
from serving.loading import load
from tests.serving.oip import BINARY, INFER, binary_request, json_inputs, with_binary

ROW = dict(wind_speed=12.5, distance=760, carrier="DL", is_holiday=False, recent_delay=None, gate="north")  # noqa: C408
POSITION = {name: position for position, name in enumerate(ROW)}
MATRIX = {"name": "features", "datatype": "FP32", "shape": [1, 6], "data": [12.5, 760, 1, 0, None, 0]}


def changed(name: str, /, **fields) -> dict:
    """A good request but for some fields of one input; a field that is ... is left out."""
    inputs = json_inputs([ROW, ROW])
    one = inputs[POSITION[name]] | fields
    inputs[POSITION[name]] = {key: value for key, value in one.items() if value is not ...}
    return {"inputs": inputs}


def matrix(**fields) -> dict:
    return {"inputs": [MATRIX | fields]}


GOOD = {"inputs": json_inputs([ROW])}
WRONG = {
    "a list": [],
    "null": None,
    "no inputs": {},
    "inputs null": {"inputs": None},
    "inputs empty": {"inputs": []},
    "inputs an object": {"inputs": {}},
    "input a number": {"inputs": [1]},
    "input without a name": changed("gate", name=...),
    "name a list": changed("gate", name=["gate"]),
    "unknown name": changed("gate", name="weather"),
    "long name": changed("gate", name="w" * 100_000),
    "input twice": changed("gate", name="carrier"),
    "more inputs than features": {"inputs": json_inputs([ROW]) * 2},
    "required input left out": {"inputs": json_inputs([ROW])[1:]},
    "matrix beside a feature": {"inputs": [MATRIX, *json_inputs([ROW])[:1]]},
    "no datatype": changed("gate", datatype=...),
    "datatype in small letters": changed("distance", datatype="int32"),
    "datatype unknown": changed("distance", datatype="BF16"),
    "datatype a list": changed("distance", datatype=["FP32"]),
    "FP16 in JSON": changed("wind_speed", datatype="FP16"),
    "number for a category": changed("carrier", datatype="INT64", data=[1, 1]),
    "text for a number": changed("wind_speed", datatype="BYTES", data=["1", "1"]),
    "number for a bool": changed("is_holiday", datatype="INT8", data=[0, 0]),
    "bool for a number": changed("wind_speed", datatype="BOOL", data=[True, True]),
    "no shape": changed("gate", shape=...),
    "shape a number": changed("gate", shape=2),
    "shape empty": changed("gate", shape=[]),
    "shape of floats": changed("gate", shape=[2.0]),
    "shape of bools": changed("gate", shape=[True]),
    "no rows": changed("gate", shape=[0], data=[]),
    "negative rows": changed("gate", shape=[-1]),
    "two columns": changed("gate", shape=[1, 2]),
    "negative columns": changed("gate", shape=[-2, -1]),
    "three dimensions": changed("gate", shape=[2, 1, 1]),
    "thousands of dimensions": changed("gate", shape=[1] * 10_000),
    "product that is 0 in 64 bits": changed("gate", shape=[1, 2**62]),
    "other number of rows": changed("gate", shape=[1], data=["north"]),
    "no data": changed("gate", data=...),
    "data null": changed("gate", data=None),
    "data an object": changed("gate", data={}),
    "too few values": changed("gate", data=["north"]),
    "too many values": changed("gate", data=["north"] * 3),
    "nested in one dimension": changed("gate", data=[["north"], ["south"]]),
    "nested too deep": changed("gate", shape=[2, 1], data=[[["north"]], [["south"]]]),
    "nested and flat": changed("gate", shape=[2, 1], data=[["north"], "south"]),
    "flat and nested": changed("gate", shape=[2, 1], data=["north", ["south"]]),
    "rows of two": changed("gate", shape=[2, 1], data=[["north", "south"], ["north"]]),
    "object as a value": changed("gate", data=["north", {}]),
    "text as a number": changed("wind_speed", data=["1", "2"]),
    "bool as a number": changed("wind_speed", data=[True, False]),
    "number as a bool": changed("is_holiday", data=[0, 1]),
    "number as a text": changed("carrier", data=[1, "DL"]),
    "null where required": changed("carrier", data=["DL", None]),
    "unknown category": changed("carrier", data=["DL", "hunter2"]),
    "fraction as an integer": changed("distance", datatype="FP32", data=[760.5, 1]),
    "fraction in an integer tensor": changed("wind_speed", datatype="INT64", data=[12.5, 1]),
    "beyond INT8": changed("distance", datatype="INT8", data=[128, 1]),
    "below UINT8": changed("distance", datatype="UINT8", data=[-1, 1]),
    "beyond a float32": changed("wind_speed", data=[1e39, 1]),
    "parameters a list": changed("gate", parameters=[]),
    "size without binary data": changed("gate", data=..., parameters={"binary_data_size": 8}),
    "data and a size": changed("gate", parameters={"binary_data_size": 0}),
    "shared memory": changed("gate", data=..., parameters={"shared_memory_region": "hunter2"}),
    "matrix of texts": matrix(datatype="BYTES", data=["a"] * 6),
    "matrix of one dimension": matrix(shape=[6]),
    "matrix too narrow": matrix(shape=[1, 5], data=[1] * 5),
    "matrix too wide": matrix(shape=[1, 7], data=[1] * 7),
    "matrix with too few values": matrix(data=[1] * 5),
    "matrix without a required value": matrix(data=[None, 760, 1, 0, None, 0]),
    "matrix with half a category": matrix(data=[12.5, 760, 0.5, 0, None, 0]),
    "matrix with an unknown category": matrix(data=[12.5, 760, 3, 0, None, 0]),
    "matrix with an unknown optional category": matrix(data=[12.5, 760, 1, 0, None, 2]),
    "matrix with half an integer": matrix(data=[12.5, 760.5, 1, 0, None, 0]),
    "matrix with 2 for a bool": matrix(data=[12.5, 760, 1, 2, None, 0]),
    "matrix beyond a float32": matrix(datatype="FP64", data=[1e39, 760, 1, 0, None, 0]),
    "id a number": GOOD | {"id": 1},
    "id too long": GOOD | {"id": "x" * 129},
    "binary_data_output text": GOOD | {"parameters": {"binary_data_output": "true"}},
    "outputs text": GOOD | {"outputs": "probabilities"},
    "output unknown": GOOD | {"outputs": [{"name": "hunter2"}]},
    "output a list": GOOD | {"outputs": [{"name": []}]},
    "output twice": GOOD | {"outputs": [{"name": "probabilities"}] * 2},
    "binary_data a number": GOOD | {"outputs": [{"name": "probabilities", "parameters": {"binary_data": 1}}]},
    "classification": GOOD | {"outputs": [{"name": "probabilities", "parameters": {"classification": 2}}]},
}


@pytest.fixture(scope="module")
def client(directories) -> Iterator[TestClient]:
    """One for all: what is refused leaves nothing behind."""
    with TestClient(front(load(directories["binary"])), raise_server_exceptions=False) as one:
        yield one


def assert_refused(answer, status=400) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    assert len(answer.json()["error"]) > 10
    assert len(answer.content) < 4096
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("name", WRONG)
def test_wrong_request_is_refused(client, name):
    assert_refused(client.post(INFER, content=json.dumps(WRONG[name]).encode()))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 50_000, json.dumps(matrix()).encode() + b"x"])
def test_what_is_not_json_is_refused(client, text):
    assert_refused(client.post(INFER, content=text))


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000])
def test_numbers_that_json_has_not_are_refused(client, text):
    assert_refused(client.post(INFER, content=json.dumps(matrix()).encode().replace(b"12.5", text)))


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (WRONG["fraction as an integer"], "rows[0]: 'distance' must be an integer"),
        (WRONG["unknown category"], "rows[1]: 'carrier' must be one of ['AA', 'DL', 'UA']"),
        (WRONG["matrix with 2 for a bool"], "rows[0]: 'is_holiday' must be 0 or 1"),
        (WRONG["required input left out"], "input 'wind_speed' is required"),
        (WRONG["two columns"], "the shape of input 'gate' has to be [rows] or [rows, 1], with at least one row"),
    ],
)
def test_error_says_what_is_wrong_where(client, request_, says):
    assert client.post(INFER, json=request_).json() == {"error": says}


def test_too_many_rows_are_a_413_before_they_are_looked_for(make_client):
    with make_client(rows=3) as client:
        assert client.post(INFER, json={"inputs": json_inputs([ROW] * 3)}).status_code == 200
        assert_refused(client.post(INFER, json={"inputs": json_inputs([ROW] * 4)}), 413)
        assert_refused(client.post(INFER, json=matrix(shape=[2**63, 6])), 413)


@pytest.mark.parametrize("unit", [b"[]", b"{}", b"[[]]"])
def test_two_megabytes_of_tiny_lists_are_refused_soon(client, unit):
    body = b'{"inputs":[{"data":[' + b",".join([unit] * (2_000_000 // (len(unit) + 1))) + b"]}]}"
    assert_refused(client.post(INFER, content=body), 413)


def test_body_beyond_the_cap_is_a_413(make_client):
    with make_client(body_bytes=100) as client:
        body, headers = binary_request([ROW])
        assert_refused(client.post(INFER, content=body, headers=headers), 413)


def test_other_content_types_are_a_415(client):
    assert_refused(client.post(INFER, json=GOOD, headers={"content-type": "text/plain"}), 415)


@pytest.mark.parametrize("length", ["", "-1", "+5", "1.5", "0x10", "abc", "9" * 5000, "²", "99999", "0", "1", " "])
def test_length_of_the_json_that_is_off_is_refused(client, length):
    body, _ = binary_request([ROW])
    headers = BINARY | {"Inference-Header-Content-Length": length.encode("latin-1")}
    assert_refused(client.post(INFER, content=body, headers=headers))


def one_binary(name: str, datatype: str, data: bytes, size=None, rows: int = 2) -> tuple[bytes, dict[str, str]]:
    """A good request but for one input's binary data."""
    size = len(data) if size is None else size
    fields = {"datatype": datatype, "shape": [rows], "data": ..., "parameters": {"binary_data_size": size}}
    return with_binary(changed(name, **fields), data)


def text(*pairs) -> bytes:
    """Elements of BYTES, with the lengths that they are said to have."""
    return b"".join(struct.pack("<I", length) + data for length, data in pairs)


@pytest.mark.parametrize(
    "made",
    [
        one_binary("wind_speed", "FP32", b"\0" * 7),
        one_binary("wind_speed", "FP32", b"\0" * 12),
        one_binary("wind_speed", "FP64", b"\0" * 8),
        one_binary("wind_speed", "FP32", b"\0" * 8, size=9),
        one_binary("wind_speed", "FP32", b"\0" * 8, size=4),
        one_binary("wind_speed", "FP32", b"\0" * 8, size=-8),
        one_binary("wind_speed", "FP32", b"\0" * 8, size=2**70),
        one_binary("wind_speed", "FP32", b"\0" * 8, size=8.0),
        one_binary("wind_speed", "FP32", b"\0" * 8, size="8"),
        one_binary("wind_speed", "FP32", b"\0" * 8, size=True),
        one_binary("wind_speed", "FP32", struct.pack("<ff", 1, float("nan"))),
        one_binary("wind_speed", "FP32", struct.pack("<ff", 1, float("inf"))),
        one_binary("recent_delay", "FP32", struct.pack("<ff", 1, float("-inf"))),
        one_binary("wind_speed", "FP64", struct.pack("<dd", 1, 1e39)),
        one_binary("distance", "FP32", struct.pack("<ff", 1, 1.5)),
        one_binary("is_holiday", "BOOL", b"\x01\x02"),
        one_binary("is_holiday", "INT8", b"\x01\x01"),
        one_binary("carrier", "BYTES", b""),
        one_binary("carrier", "BYTES", text((2, b"DL"), (2, b"D"))),
        one_binary("carrier", "BYTES", text((2, b"DL")) + b"\x02\0\0"),
        one_binary("carrier", "BYTES", text((2, b"DL"), (2, b"DLx"))),
        one_binary("carrier", "BYTES", text((2, b"DL"), (2**32 - 1, b"DL"))),
        one_binary("carrier", "BYTES", text((2, b"DL"), (2, b"\xff\xfe"))),
        one_binary("carrier", "BYTES", text((2, b"DL"), (0, b""))),
        one_binary("carrier", "BYTES", text((2, b"DL"), (7, b"hunter2"))),
        with_binary(GOOD, b"x"),
    ],
)
def test_binary_data_that_is_not_what_it_says_is_refused(client, made):
    body, headers = made
    assert_refused(client.post(INFER, content=body, headers=headers))


def test_every_truncation_is_refused(client):
    body, headers = binary_request([ROW])
    for length in range(0, len(body), 3):
        assert_refused(client.post(INFER, content=body[:length], headers=headers))


def test_whatever_the_bytes_there_is_an_answer_and_no_server_error(client):
    good, headers = binary_request([ROW] * 2)
    json_bytes = int(headers["Inference-Header-Content-Length"])
    lengths = st.integers(0, len(good) + 2).map(str) | st.just(str(json_bytes)) | st.text("0123456789-", max_size=20)
    edits = st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), max_size=4)
    tails = st.binary(max_size=len(good) - json_bytes)

    @given(edits, tails, st.booleans(), lengths)
    @settings(max_examples=150, deadline=None)
    def answers(edits, tail, keep, length):
        body = bytearray(good if keep else good[:json_bytes] + tail)
        for position, byte in edits:
            body[position % len(body)] = byte
        answer = client.post(INFER, content=bytes(body), headers=BINARY | {"Inference-Header-Content-Length": length})
        if answer.status_code != 200:
            assert answer.status_code in (400, 413)
            assert answer.json().keys() == {"error"}

    answers()


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=5,
)


def test_whatever_a_field_holds_there_is_an_answer_and_no_server_error(client):
    fields = st.dictionaries(
        st.sampled_from(["name", "datatype", "shape", "data", "parameters"]), JSON_VALUES, max_size=2
    )
    document = st.dictionaries(st.sampled_from(["id", "parameters", "outputs"]), JSON_VALUES, max_size=1)

    @given(st.sampled_from(list(ROW)), fields, document)
    @settings(max_examples=100, deadline=None)
    def answers(name, fields, document):
        content = json.dumps(changed(name, **fields) | document).replace("Infinity", "1").encode()
        assert client.post(INFER, content=content).status_code in (200, 400, 413)

    answers()
