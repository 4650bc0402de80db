"""Requests of both APIs as Hypothesis makes them: plain ones, nearly plain ones, and others."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.serving import oip
from tests.serving.asking import GONE, JSON, PAUSE, length, parts

# A valid row as text, so that what JSON allows and no decoder keeps apart can be said.
VALID = {
    "wind_speed": b"12.5",
    "distance": b"760",
    "carrier": b'"DL"',
    "is_holiday": b"false",
    "recent_delay": b"null",
    "gate": b'"north"',
}
NUMBERS = st.one_of(
    st.from_regex(rb"-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
    st.from_regex(rb"-?(0|[1-9][0-9]{0,50})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from([b"3.4028234663852886e38", b"3.402823466385289e38", b"-0", b"-0.0", b"1e400", b"1e-400"]),
    # Where decoders round or end differently: around 2**24, 2**53, int64, uint64, the least float32 and double.
    st.sampled_from([b"16777217", b"9007199254740993", b"9223372036854775808", b"18446744073709551616", b"1.4e-45"]),
    st.sampled_from(
        [b"-9223372036854775809", b"5e-324", b"1." + b"0" * 700 + b"1", b"1" + b"0" * 22 + b".0", b"7" * 5000]
    ),
    st.sampled_from([b"NaN", b"Infinity", b"-Infinity", b"9" * 400, b"01", b"1.", b".5", b"+1", b"760.0", b"760.5"]),
)
WORDS = st.one_of(
    st.text(max_size=5).map(lambda text: json.dumps(text).encode()),
    st.text(st.characters(codec="utf-8"), max_size=5).map(lambda text: json.dumps(text, ensure_ascii=False).encode()),
    st.sampled_from([b'"DL"', b'"\\u0044\\u004c"', b'"AA"', b'"XX"', b'"north"', b'"\\ud800"', b'"\xff"', b'"a\tb"']),
    st.sampled_from([b'"\\u0000"', b'"{[{["', b'"[[[[[[[[[[[[[["', b'"\\ud83d\\ude00"', b'"\xed\xa0\x80"', b'"\\x"']),
)
TIMES = st.one_of(
    st.datetimes(timezones=st.timezones()).map(lambda moment: json.dumps(moment.isoformat()).encode()),
    st.sampled_from([b'"2013-07-01T12:00:00Z"', b'"2013-07-01"', b'"2013-07-01T12:00:00"', b"1372680000", b'"now"']),
    st.sampled_from([b'"0001-01-01T00:00:00+23:59"', b'"9999-12-31T23:59:59.999999-23:59"', b'"2013-W27-1T12:00:00Z"']),
)
OTHERS = st.sampled_from(
    [b"null", b"true", b"false", b"{}", b"[]", b'{"a":[1]}', b"", b"nope", b'"' + b"k" * 65 + b'"']
)
VALUES = st.one_of(NUMBERS, WORDS, TIMES, OTHERS)
# What may be taken for a feature or a key.
NEARLY = {
    **dict.fromkeys(("wind_speed", "distance", "recent_delay"), NUMBERS),
    **dict.fromkeys(("carrier", "gate", "flight_id"), WORDS),
    "decided_at": TIMES,
}
# What a feature or a key may be; a number of these is a float32, and a word is anything that JSON can hold.
SOUND_NUMBERS = st.one_of(
    st.from_regex(rb"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,30})?([eE][+-]?[0-9])?", fullmatch=True),
    st.sampled_from([b"3.4028234663852886e38", b"-0", b"-0.0", b"1e-400", b"123456789012345678901234567890"]),
)
SOUND = {
    "wind_speed": SOUND_NUMBERS,
    "distance": st.one_of(
        st.integers(-(2**64), 2**65).map(b"%d".__mod__), st.sampled_from([b"760.0", b"7.6e2", b"-0"])
    ),
    "carrier": st.sampled_from([b'"AA"', b'"DL"', b'"UA"', b'"\\u0044\\u004c"']),
    "is_holiday": st.sampled_from([b"true", b"false"]),
    "recent_delay": st.one_of(st.just(b"null"), SOUND_NUMBERS),
    "gate": st.one_of(st.just(b"null"), st.text(max_size=5).map(lambda text: json.dumps(text).encode())),
    "flight_id": st.one_of(st.just(b"null"), st.from_regex(rb'"[A-Za-z0-9 ]{1,9}"', fullmatch=True)),
    "decided_at": st.sampled_from([b"null", b'"2013-07-01T12:00:00Z"', b'"2013-07-01T12:00:00.123456+05:30"']),
}
NAMES = st.sampled_from([*SOUND, "weather", "wind_speed ", "Gate", "", "n" * 70, "\\u0067ate", "\\ud800"])


@st.composite
def row_texts(draw: Any, sound: bool) -> bytes:
    """A row, with equal keys now and then; sound ones are valid."""
    pairs = list(VALID.items())
    for name in draw(st.lists(st.sampled_from([*SOUND]), max_size=4)):
        pairs.append((name, draw(SOUND[name])))
    if not sound:
        name = draw(st.sampled_from([*NEARLY]))
        pairs.append((name, draw(NEARLY[name])))
        pairs += draw(st.lists(st.tuples(NAMES, VALUES), max_size=1))
    gone = draw(st.sets(st.sampled_from(["recent_delay", "gate"] if sound else [*VALID]), max_size=1))
    pairs = draw(st.permutations([pair for pair in pairs if pair[0] not in gone]))
    comma, colon = draw(st.sampled_from([(b",", b":"), (b" ,\n", b"\t: ")]))
    return b"{" + comma.join(b'"' + name.encode() + b'"' + colon + value for name, value in pairs) + b"}"


@st.composite
def row_bodies(draw: Any) -> bytes:
    """A body for the rows API."""
    spoilt = draw(st.sampled_from(["not", "not", "not", "row", "row", "body", "bytes"]))
    rows = draw(st.lists(row_texts(sound=spoilt != "row"), min_size=1, max_size=4))
    rows *= draw(st.sampled_from([1, 1, 1, 2, 30]))
    body = b'{"rows":[' + b",".join(rows) + b"]}"
    if spoilt == "body":
        wrapped = [b"%s x", b"\xef\xbb\xbf%s", b"[%s]", b"%s%s", b'{"rows":[]}', b'{"rows":%s}', b" %s\n", b"\r\n\t%s"]
        body = draw(st.sampled_from(wrapped)).replace(b"%s", body)
        body = body[:-1] + draw(
            st.sampled_from([body[-1:], b', "instances":[]}', b', "rows":[]}', b', "rows":[{}]}', b""])
        )
    return draw(damaged(body)) if spoilt == "bytes" else body


@st.composite
def damaged(draw: Any, body: bytes) -> bytes:
    """A body in which some bytes are others."""
    start = draw(st.integers(0, len(body)))
    return body[:start] + draw(st.binary(max_size=3)) + body[start + draw(st.integers(0, 3)) :]


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["DL", "north", "x", "", 0, 1, 2, 12.5, 760, 760.5, 3.5e38, [], {}]),
)
JUNK = st.one_of(CELLS, st.lists(CELLS, max_size=3), st.dictionaries(st.sampled_from(["a", "name"]), CELLS, max_size=1))
DATATYPES = st.sampled_from(["FP32", "FP64", "FP16", "INT8", "INT64", "UINT64", "BOOL", "BYTES", "BF16", None, 1])
ASKED = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["probabilities", "prediction", "prediction_id", "other", 1])},
        optional={
            "parameters": st.sampled_from([{"binary_data": True}, {"binary_data": 1}, {"classification": 1}, []])
        },
    ),
    max_size=3,
)
MORE = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.text(max_size=3), st.sampled_from(["i" * 128, "i" * 129, 1, None])),
        "outputs": st.one_of(ASKED, JUNK),
        "parameters": st.sampled_from([{"binary_data_output": True}, {"binary_data_output": 1}, {"x": 1}, [], None]),
        "extra": JUNK,
    },
)


@st.composite
def tensors(draw: Any, rows: list[dict[str, Any]]) -> tuple[bytes, bytes | None]:
    """A body for the tensor API, and what its header says of the length of the JSON."""
    more, binary = draw(MORE) if draw(st.booleans()) else {}, b""
    form = draw(st.sampled_from(["json", "json", "nested", "binary", "matrix"]))
    given: str | None = None
    if form == "binary":
        body, headers = oip.binary_request(rows, **more)
        given = headers["Inference-Header-Content-Length"]
        document, binary = json.loads(body[: int(given)]), body[int(given) :]
    elif form == "matrix":
        row = [12.5, 760, 1, 0, None, draw(st.sampled_from([0, 1, 2, 0.5, None]))]
        document = {
            "inputs": [{"name": "features", "datatype": "FP32", "shape": [len(rows), 6], "data": row * len(rows)}]
        }
        document |= more
    else:
        document = {"inputs": oip.json_inputs(rows, nested=form == "nested"), **more}
    spoilt = draw(st.sampled_from(["not", "not", "input", "input", "bytes", "binary", "length"]))
    if spoilt == "input":
        _spoil(draw, document["inputs"])
    text = json.dumps(document).encode()
    if spoilt == "bytes":
        text = draw(damaged(text))
    if given is not None:
        given = str(len(text))
    if spoilt == "binary":
        binary = draw(damaged(binary))
    if spoilt == "length":
        wrong = ["", "-1", "x", "9" * 19, "9" * 12, "\xb2", "0", str(len(text)), str(len(text) + 1), str(len(text) - 1)]
        given = draw(st.sampled_from(wrong))
    return text + binary, None if given is None else given.encode("latin-1")


def _spoil(draw: Any, inputs: list[Any]) -> None:
    position = draw(st.integers(0, len(inputs) - 1)) if inputs else None
    match draw(st.sampled_from(["gone", "twice", "junk", "field", "field", "cell"])):
        case _ if position is None:
            inputs.append(draw(JUNK))
        case "gone":
            del inputs[position]
        case "twice":
            inputs.append(inputs[position])
        case "junk":
            inputs[position] = draw(JUNK)
        case "cell" if isinstance(inputs[position], dict) and isinstance(inputs[position].get("data"), list):
            data = inputs[position]["data"] = list(inputs[position]["data"])
            data[:1] = [draw(JUNK)]
        case _ if isinstance(inputs[position], dict):
            field = draw(st.sampled_from(["name", "datatype", "shape", "data", "parameters"]))
            inputs[position] = inputs[position] | {field: draw(DATATYPES if field == "datatype" else JUNK)}


TYPES = st.sampled_from(
    [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-type", b"Application/JSON"),
        (b"content-type", b"application/octet-stream"),
        (b"content-type", b"text/plain"),
        (b"content-type", b""),
        (b"content-type", b"\xff"),
        None,
    ]
)
ODD = st.sampled_from(
    [
        JSON,
        (b"content-encoding", b"gzip"),
        (b"content-encoding", b"identity"),
        (b"content-encoding", b""),
        (b"accept", b"text/html"),
        (b"headrace-role", b"canary"),
        (b"headrace-role", b"boss"),
        (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        (b"cookie", b"a=b"),
        (b"x-request-id", b"another"),
    ]
)
LENGTHS = st.sampled_from([None, b"0", b"10", b"300", b"41943040", b"9" * 50, b"-1", b"x", b"\xb2", b"007"])


@st.composite
def requests(draw: Any, bodies: Any, json_length: bytes | None = None) -> tuple[list[Any], list[Any]]:
    """Headers, and a body as it comes: whole or in parts, at once or not, and sometimes not to its end."""
    body = draw(bodies) if not isinstance(bodies, bytes) else bodies
    odd = draw(st.sampled_from([*["nothing"] * 4, "type", "length", "header", "end"]))
    kind = draw(TYPES) if odd == "type" else JSON
    size = draw(LENGTHS) if odd == "length" else length(body)[1]
    headers = [(b"host", b"localhost"), (b"x-request-id", b"r-1"), kind]
    headers.append(size and (b"content-length", size))
    headers.append(json_length and (b"inference-header-content-length", json_length))
    headers.append(draw(ODD) if odd == "header" else None)
    coming: list[Any] = []
    for part in parts(body, *draw(st.lists(st.integers(0, len(body)), max_size=draw(st.sampled_from([0, 0, 3]))))):
        coming += [PAUSE] * draw(st.integers(0, 1)) + [part]
    if odd == "end":
        coming = [*coming[: draw(st.integers(0, len(coming) - 1))], GONE]
    return [one for one in headers if one], coming
