"""Whatever the body, the answer is a small 4xx in the error form, soon.

Time is processor time: how long it takes on a busy machine is not the service's doing.
"""

import json

import anyio
import pytest

PATH = "/v1/models/flight_delay/predict"
JSON = {"content-type": "application/json"}
GOOD = {
    "wind_speed": 12.5,
    "distance": 760,
    "carrier": "DL",
    "is_holiday": False,
    "recent_delay": None,
    "gate": "north",
}


def row(**changes) -> bytes:
    return json.dumps({"rows": [GOOD | changes]}).encode()


def raw(name: str, text: bytes) -> bytes:
    """A good row but for one value, as it stands."""
    return row(**{name: "@"}).replace(b'"@"', text)


MALFORMED = {
    "empty": b"",
    "blank": b"  ",
    "not json": b"rows=1",
    "cut off": row()[:-3],
    "more after the end": row() + b"x",
    "two documents": row() + row(),
    "byte order mark": b"\xef\xbb\xbf" + row(),
    "utf-16": row().decode().encode("utf-16"),
    "not utf-8": raw("carrier", b'"\xff\xfe"'),
    "NUL": b"\0",
    "NUL in a string": raw("carrier", b'"D\0L"'),
    "lone surrogate": raw("carrier", b'"\\ud800"'),
    "lone surrogate in a name": raw("carrier", b'"DL", "\\udfff": 1'),
    "lists a hundred thousand deep": b"[" * 100_000,
    "rows a hundred thousand deep": b'{"rows":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects a hundred thousand deep": b'{"rows":' * 100_000,
    "value fifty thousand deep": raw("wind_speed", b"[" * 50_000 + b"]" * 50_000),
    "NaN": raw("wind_speed", b"NaN"),
    "Infinity": raw("wind_speed", b"Infinity"),
    "minus Infinity": raw("wind_speed", b"-Infinity"),
    "integer of 5000 digits": raw("distance", b"9" * 5000),
    "number of 5000 digits": raw("wind_speed", b"9" * 5000),
    "number beyond a double": raw("wind_speed", b"1e999"),
    "number beyond a float32": raw("wind_speed", b"1e39"),
    "list": b"[]",
    "null": b"null",
    "string": b'"rows"',
    "no rows": b"{}",
    "rows null": b'{"rows": null}',
    "rows empty": b'{"rows": []}',
    "rows an object": b'{"rows": {"0": {}}}',
    "row a list": b'{"rows": [[12.5, 760, "DL", false, null, "north"]]}',
    "row null": b'{"rows": [null]}',
    "second row a number": row()[:-2] + b", 1]}",
    "another key beside rows": row()[:-1] + b', "instances": []}',
    "OIP tensors": b'{"inputs": [{"name": "x", "shape": [1, 6], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}]}',
    "row without features": b'{"rows": [{}]}',
    "unknown feature": row(weather="fine"),
    "misspelt feature": raw("gate", b'"north", "carier": "DL"'),
    "number as text": row(wind_speed="12.5"),
    "bool as number": row(wind_speed=True),
    "float as int": row(distance=760.5),
    "bool as int": row(distance=True),
    "number as bool": row(is_holiday=1),
    "number as category": row(carrier=1),
    "unknown category": row(carrier="XX"),
    "list as category": row(carrier=["DL"]),
    "object as number": row(wind_speed={"a": 1}),
    "null where required": row(wind_speed=None),
    "wrong one last": b'{"rows": [{}], ' + row(wind_speed=None)[1:],
}


def assert_refused(answer, statuses=(400,)) -> None:
    assert answer.status_code in statuses
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    assert len(answer.json()["error"]) > 10
    assert len(answer.content) < 4096


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_body_is_refused(client, name):
    answer = client.post(PATH, content=MALFORMED[name], headers=JSON)
    assert_refused(answer, (413,) if "thousand deep" in name else (400,))


def test_depth_alone_is_refused(make_client):
    with make_client(rows=10**9) as client:
        for name in (name for name in MALFORMED if "deep" in name):
            assert_refused(client.post(PATH, content=MALFORMED[name], headers=JSON))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (row(wind_speed="12.5"), "rows[0]: 'wind_speed' must be a number"),
        (row(carrier="XX"), "rows[0]: 'carrier' must be one of ['AA', 'DL', 'UA']"),
        (row(weather="fine"), "rows[0]: 'weather' is not a feature of flight_delay"),
        (row()[:-2] + b", 1]}", "rows[1] has to be an object: feature to value"),
        (b'{"rows":\n [nope]}', "the body is not JSON: line 2, column 3"),
    ],
)
def test_error_says_what_is_wrong_where(client, body, says):
    assert client.post(PATH, content=body, headers=JSON).json() == {"error": says}


def test_error_never_repeats_values(client):
    body = row(carrier="hunter2-secret", wind_speed="hunter2-secret", is_holiday=["hunter2-secret"])
    answer = client.post(PATH, content=body, headers=JSON)
    assert_refused(answer)
    assert "hunter2" not in answer.text


def test_of_two_equal_keys_the_last_counts(client):
    first_wrong = raw("wind_speed", b'"text", "wind_speed": 12.5')
    assert client.post(PATH, content=first_wrong, headers=JSON).status_code == 200
    assert_refused(client.post(PATH, content=raw("wind_speed", b'12.5, "wind_speed": "text"'), headers=JSON))
    assert_refused(client.post(PATH, content=row()[:-1] + b', "rows": []}', headers=JSON))


def test_text_that_json_can_hold_is_only_a_value(client):
    for text in (b'"\\u0000"', b'"\\ud83d\\ude00"', b'"' + b"x" * 100_000 + b'"'):
        # An optional category that is not known counts as missing.
        assert client.post(PATH, content=raw("gate", text), headers=JSON).status_code == 200
        assert_refused(client.post(PATH, content=raw("carrier", text), headers=JSON))


@pytest.mark.parametrize("unit", [b"{}", b"[]", b"null", b'""', b'{"":0}'])
def test_two_megabytes_of_tiny_rows_are_refused(client, unit):
    count = (2 * 1024 * 1024 - 20) // (len(unit) + 1)
    body = b'{"rows":[' + b",".join([unit] * count) + b"]}"
    answer = client.post(PATH, content=body, headers=JSON)
    assert_refused(answer, (400, 413))


def test_many_unknown_names_make_a_small_answer(client):
    many = b",".join(b'"n%d":1' % i for i in range(100_000))
    long = b'"' + b"n" * 1_000_000 + b'":1'
    for names in (many, long):
        answer = client.post(PATH, content=raw("gate", b'"north",' + names), headers=JSON)
        assert_refused(answer)


def test_full_request_with_every_row_wrong_makes_a_small_answer(client):
    answer = client.post(PATH, json={"rows": [{"carrier": "X" * 50, "weather": 1}] * 10_000})
    assert_refused(answer)
    assert answer.json()["error"].endswith("; and more")


def test_full_request_with_only_the_last_row_wrong_is_refused(client):
    body = json.dumps({"rows": [GOOD] * 9_999 + [GOOD | {"wind_speed": None}]}).encode()
    answer = client.post(PATH, content=body, headers=JSON)
    assert_refused(answer)
    assert answer.json() == {"error": "rows[9999]: 'wind_speed' must not be null"}


def test_too_many_rows_are_a_413(make_client):
    with make_client(rows=3) as client:
        assert client.post(PATH, json={"rows": [GOOD] * 3}).status_code == 200
        answer = client.post(PATH, json={"rows": [GOOD] * 4})
    assert_refused(answer, (413,))
    assert "at most 3 rows" in answer.json()["error"]


@pytest.mark.parametrize("whole", [b"760.0", b"7.6e2", b"0.76e3"])
def test_whole_float_is_an_integer(client, whole):
    answers = [client.post(PATH, content=raw("distance", text), headers=JSON) for text in (b"760", whole)]
    assert [answer.status_code for answer in answers] == [200, 200]
    first, second = (answer.json()["predictions"][0]["probability"] for answer in answers)
    assert first == second


def test_brackets_in_text_are_not_rows(client):
    assert client.post(PATH, content=row(gate="[{" * 5_000), headers=JSON).status_code == 200


@pytest.mark.parametrize("declared", [None, "10", str(41 * 1024 * 1024)])
def test_41_megabytes_are_a_413_whatever_they_declare(client, declared):
    chunks = (b" " * 1024 * 1024 for _ in range(41))
    headers = JSON if declared is None else JSON | {"content-length": declared}
    assert_refused(client.post(PATH, content=chunks, headers=headers), (413,))


@pytest.mark.parametrize("declared", ["9" * 5000, "-1", "abc", "²"])
def test_odd_content_length_is_no_server_error(client, declared):
    answer = client.post(PATH, content=row(), headers=JSON | {"content-length": declared.encode("latin-1")})
    assert answer.status_code in (200, 413)


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "", "multipart/form-data"]
)
def test_other_content_types_are_a_415(client, kind):
    headers = {} if kind is None else {"content-type": kind}
    assert_refused(client.post(PATH, content=row(), headers=headers), (415,))


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_by_other_spellings_is_json(client, kind):
    assert client.post(PATH, content=row(), headers={"content-type": kind}).status_code == 200


def test_compressed_body_is_a_415(client):
    assert_refused(client.post(PATH, content=b"\x1f\x8b", headers=JSON | {"content-encoding": "gzip"}), (415,))


def test_body_that_does_not_arrive_is_a_408_and_gives_its_place_back(make_client):
    app = make_client(body_timeout_s=0.05, in_flight=1).app
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    sent = []

    async def send(message):
        sent.append(message)

    async def ask_twice():
        for _ in range(2):
            arriving = iter([{"type": "http.request", "body": b"{", "more_body": True}])

            async def receive(arriving=arriving):
                for message in arriving:
                    return message
                return await anyio.sleep_forever()

            await app(dict(scope), receive, send)

    anyio.run(ask_twice)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert [start["status"] for start in starts] == [408, 408]
    assert all((b"connection", b"close") in start["headers"] for start in starts)
