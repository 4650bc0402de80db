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
FITTING = {
    "wind_speed": st.one_of(NUMBERS, st.just(b"12.5")),
    "distance": st.one_of(NUMBERS, st.just(b"760")),
    "carrier": st.sampled_from([b'"AA"', b'"DL"', b'"UA"', b'"\\u0044\\u004c"']),
    "is_holiday": st.sampled_from([b"true", b"false"]),
    "recent_delay": st.one_of(st.just(b"null"), NUMBERS),
    "gate": st.one_of(st.just(b"null"), WORDS),
    "flight_id": st.one_of(st.just(b"null"), WORDS),
    "decided_at": st.one_of(st.just(b"null"), TIMES),
}
NAMES = st.sampled_from([*FITTING, "weather", "wind_speed ", "Gate", "", "n" * 70, "\\u0067ate", "\\ud800"])


@st.composite
def row_texts(draw: Any) -> bytes:
    """A row: mostly valid, with equal keys now and then."""
    pairs = list(VALID.items())
    for name in draw(st.lists(st.sampled_from([*FITTING]), max_size=3)):
        pairs.append((name, draw(FITTING[name])))
    if not draw(st.integers(0, 3)):
        pairs += draw(st.lists(st.tuples(NAMES, VALUES), max_size=2))
    gone = draw(st.sets(st.sampled_from(["recent_delay", "gate"] if draw(st.booleans()) else [*VALID]), max_size=2))
    pairs = draw(st.permutations([pair for pair in pairs if pair[0] not in gone]))
    comma, colon = draw(st.sampled_from([(b",", b":"), (b" ,\n", b"\t: ")]))
    return b"{" + comma.join(b'"' + name.encode() + b'"' + colon + value for name, value in pairs) + b"}"


@st.composite
def row_bodies(draw: Any) -> bytes:
    """A body for the rows API."""
    rows = draw(st.lists(row_texts(), min_size=0 if not draw(st.integers(0, 9)) else 1, max_size=4))
    rows *= draw(st.sampled_from([1, 1, 1, 2, 30]))
    body = b'{"rows":[' + b",".join(rows) + b"]}"
    wrapped = draw(st.sampled_from([*[b"%s"] * 12, b" %s\n", b"%s x", b"\xef\xbb\xbf%s", b"[%s]", b"%s%s"]))
    body = wrapped.replace(b"%s", body)
    if not draw(st.integers(0, 7)):
        body = body[:-1] + draw(st.sampled_from([b', "instances":[]}', b', "rows":[]}', b', "rows":[{}]}', b"", b"]"]))
    return draw(damaged(body))


@st.composite
def damaged(draw: Any, body: bytes) -> bytes:
    """A body in which, now and then, some bytes are others."""
    if draw(st.integers(0, 5)):
        return body
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
    more, binary = draw(MORE), b""
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
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        _spoil(draw, document["inputs"])
    text = draw(damaged(json.dumps(document).encode()))
    if given is not None:
        given = str(len(text) + draw(st.sampled_from([*[0] * 8, 1, -1, 100])))
        if not draw(st.integers(0, 9)):
            given = draw(st.sampled_from(["", "-1", "x", "9" * 19, "9" * 12, "\xb2", "0"]))
    elif not draw(st.integers(0, 9)):
        given = str(len(text))
    return text + draw(damaged(binary)), None if given is None else given.encode("latin-1")


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
        *[JSON] * 12,
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
        *[None] * 12,
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
LENGTHS = st.sampled_from(
    [*[...] * 12, None, b"0", b"10", b"300", b"41943040", b"9" * 50, b"-1", b"x", b"\xb2", b"007"]
)


@st.composite
def requests(draw: Any, bodies: Any, json_length: bytes | None = None) -> tuple[list[Any], list[Any]]:
    """Headers, and a body as it comes: whole or in parts, at once or not, and sometimes not to its end."""
    body = draw(bodies) if not isinstance(bodies, bytes) else bodies
    declared = draw(LENGTHS)
    said = length(body) if declared is ... else declared and (b"content-length", declared)
    sized = None if json_length is None else (b"inference-header-content-length", json_length)
    headers = [(b"host", b"localhost"), (b"x-request-id", b"r-1"), draw(TYPES), said, sized, draw(ODD)]
    coming: list[Any] = []
    for part in parts(
        body, *draw(st.lists(st.integers(0, len(body)), max_size=3 if not draw(st.integers(0, 2)) else 0))
    ):
        coming += [PAUSE] * draw(st.integers(0, 1)) + [part]
    if not draw(st.integers(0, 9)):
        coming = [*coming[: draw(st.integers(0, len(coming) - 1))], GONE]
    return [one for one in headers if one is not None], coming
