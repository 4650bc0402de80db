"""The typed client: both kinds, against a loopback server that misbehaves on command and against the real service."""

import asyncio
import hashlib
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pandas as pd
import pytest
import uvicorn
from onnx import TensorProto, helper

from headrace.client import AsyncClient, BinaryPrediction, Client, Clock, MulticlassPrediction, RegressionPrediction
from headrace.documents import write_json
from headrace.domain.contract import Budgets, BusinessValue, Contract, Feature, Label, LabelDelay, Rows
from headrace.errors import DataError, HeadraceError, Unavailable, UsageError
from serving.app import front
from serving.desk import Desk
from serving.label_log import LabelLog
from serving.loading import load

ROW = {"wind_speed": 12.5, "distance": 760}
# Reading the certificates takes longer than a test, and nothing here is encrypted.
NO_TLS = httpx.create_ssl_context(verify=False)
DROP, HALF, TRICKLE = "drop", "half", "trickle"


class FakeClock(Clock):
    """Never waits; draws always the most."""

    def __init__(self) -> None:
        self.time, self.slept, self.draws = 1000.0, [], []

    def monotonic(self) -> float:
        return self.time

    def now(self) -> datetime:
        return datetime(2013, 8, 1, 12, tzinfo=UTC)

    def jitter(self, most_s: float) -> float:
        self.draws.append(most_s)
        return most_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.time += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class Misbehaving(http.server.ThreadingHTTPServer):
    """Answers what the script says next, and as a model service when the script is over."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Any] = []
        self.versions: list[int] = []
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.peers: set[Any] = set()
        self.on_piece: Callable[[], None] = lambda: None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def predictions(self, rows: list[Any]) -> dict[str, Any]:
        items = [{"id": f"p{i}", "probability": 0.5, "new": "key"} for i in range(len(rows))]
        return {
            "model": "flight_delay",
            "version": self.versions.pop(0) if self.versions else 3,
            "predictions": items,
        }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes; the second would wait 40 ms for the first to be acknowledged.
    disable_nagle_algorithm = True
    server: Misbehaving

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(content, parse_constant=pytest.fail) if content else None
        self.server.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.server.peers.add(self.client_address)
        step = self.server.script.pop(0) if self.server.script else None
        if step == DROP:
            self.close_connection = True
        elif step in (HALF, TRICKLE):
            self._half(step)
        else:
            status, headers, answer = step or (200, {}, self.server.predictions(body["rows"] if body else []))
            self._answer(status, headers, answer)

    do_GET = do_POST

    def _half(self, step: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        if step == TRICKLE:
            self.server.on_piece()
        self.wfile.write(b"{")
        self.close_connection = True

    def _answer(self, status: int, headers: dict[str, str], answer: Any) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    with Misbehaving() as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.01,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


class Awaited:
    """An AsyncClient whose methods are waited for, so that one test speaks of both clients."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url, **options)
        self._given = options.get("http")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **named: self._runner.run(getattr(self._client, name)(*args, **named))

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        if self._given:
            self._runner.run(self._given.aclose())
        self._runner.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=[(Client, httpx.Client), (Awaited, httpx.AsyncClient)], ids=["sync", "async"])
def connect(request, clock) -> Iterator[Callable[..., Any]]:
    kind, http_kind = request.param
    made = []

    def make(url: str, **options: Any) -> Any:
        given = {"clock": clock, "http": http_kind(trust_env=False, verify=NO_TLS)}
        client = kind(url, trust_env=False, **given | options)
        made.append(client)
        if kind is Client:
            made.append(given["http"])
        return client

    yield make
    for one in made:
        one.close()


@pytest.fixture
def client(connect, server):
    return connect(server.url)


BUSY = (503, {}, {"error": "too many requests are under way: try again"})


def test_a_mapping_is_one_row(client, server):
    answer = client.predict("flight_delay", ROW, version=3, request_id="abc-1")
    assert (answer.model, answer.version, list(answer)) == ("flight_delay", 3, [BinaryPrediction("p0", 0.5)])
    assert len(answer) == 1
    assert answer.to_dict()["predictions"] == [{"id": "p0", "probability": 0.5}]
    path, headers, body = server.asked[0]
    assert (path, body) == ("/v1/models/flight_delay/predict", {"rows": [ROW]})
    assert (headers["headrace-version"], headers["x-request-id"]) == ("3", "abc-1")
    assert headers["content-type"] == "application/json"


def test_a_connection_is_kept(client, server):
    for _ in range(5):
        client.predict("flight_delay", [ROW])
    assert len(server.peers) == 1


def test_missing_values_of_every_kind_are_null_and_scalars_are_plain(client, server):
    rows = [
        {"a": float("nan"), "b": np.float32("nan"), "c": pd.NaT, "d": pd.NA, "e": None, "f": np.datetime64("NaT")},
        {"a": np.float64(1.5), "b": np.float32(0.5), "c": np.int64(7), "d": np.bool_(True), "e": np.str_("x")},
    ]
    client.predict("flight_delay", rows)
    plain = {"a": 1.5, "b": 0.5, "c": 7, "d": True, "e": "x"}
    assert server.asked[0][2]["rows"] == [dict.fromkeys("abcdef"), plain]


def test_a_frame_comes_back_with_its_index(client, server):
    frame = pd.DataFrame(
        {
            "whole": [760, None],
            "nullable": pd.array([1, None], dtype="Int64"),
            "text": pd.Categorical(["DL", None]),
            "part": [0.5, np.nan],
            "float": [1.0, 2.0],
        },
        index=pd.Index(["x", "y"], name="flight"),
    )
    found = client.predict("flight_delay", frame).to_frame()
    assert list(found.index) == ["x", "y"]
    assert found.index.name == "flight"
    assert list(found.columns) == ["id", "probability"]
    sent = server.asked[0][2]["rows"]
    first = {"whole": 760, "nullable": 1, "text": "DL", "part": 0.5, "float": 1.0}
    assert sent == [first, {"whole": None, "nullable": None, "text": None, "part": None, "float": 2.0}]
    assert type(sent[0]["whole"]) is int


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "no rows"),
        (pd.DataFrame({"a": []}), "no rows"),
        ("text", "rows is a str"),
        (3, "rows is a int"),
        ([ROW, 3], r"rows\[1\] is a int"),
        ([{"a": float("inf")}], r"rows\[0\]\['a'\] is inf"),
        ([{"a": [1]}], r"rows\[0\]\['a'\] is a list"),
        ([{"a": np.array([1])}], r"is a ndarray"),
        ([{"a": datetime(2013, 1, 1)}], "is a datetime.*a time with its zone"),
        ([{1: 2}], "key 1"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"\['a'\] more than once"),
    ],
)
def test_what_json_cannot_say_is_refused_before_it_is_sent(client, server, rows, told):
    with pytest.raises(DataError, match=told):
        client.predict("flight_delay", rows)
    assert server.asked == []


def test_batches_are_joined_and_asked_of_the_first_version(connect, server):
    answer = connect(server.url, batch_rows=2).predict("flight_delay", [{"i": i} for i in range(5)])
    assert len(answer) == 5
    assert [[row["i"] for row in body["rows"]] for _, _, body in server.asked] == [[0, 1], [2, 3], [4]]
    assert [headers.get("headrace-version") for _, headers, _ in server.asked] == [None, "3", "3"]


def test_a_body_stays_below_what_a_service_reads(client, server):
    answer = client.predict("flight_delay", [{"text": "é" * 100_000}] * 10)
    assert len(answer) == 10
    assert max(int(headers["content-length"]) for _, headers, _ in server.asked) < 2 * 1024 * 1024


def test_batches_of_two_versions_are_not_joined(connect, server):
    server.versions = [3, 4]
    with pytest.raises(Unavailable, match="version 3 and later ones with version 4"):
        connect(server.url, batch_rows=1).predict("flight_delay", [ROW, ROW])


def test_a_later_batch_says_where_it_is(connect, server):
    server.script = [None, (400, {}, {"error": "rows[0]: wind_speed is missing"})]
    with pytest.raises(
        DataError, match=r"rows\[0\]: wind_speed is missing \(in the batch whose rows\[0\] is row 2 of 3"
    ):
        connect(server.url, batch_rows=2).predict("flight_delay", [ROW] * 3)


def test_another_version_than_the_one_asked_for_is_said(client):
    with pytest.raises(UsageError, match="version 9 was asked for, and version 3 answers"):
        client.predict("flight_delay", ROW, version=9)


@pytest.mark.parametrize("trouble", [DROP, BUSY, (429, {}, {"error": "slowly"})])
def test_passing_trouble_is_tried_again_with_growing_pauses(client, server, clock, trouble):
    server.script = [trouble] * 3
    assert client.predict("flight_delay", ROW).version == 3
    assert clock.draws == [0.1, 0.2, 0.4]
    assert clock.slept == [0.1, 0.2, 0.4]
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("after", "slept_s"),
    [
        ("2", 2.1),
        ("0", 0.1),
        ("99999", 30.1),
        ("9" * 400, 30.1),
        ("Thu, 01 Aug 2013 12:00:07 GMT", 7.1),
        ("Thu, 01 Aug 2013 12:00:07 -0000", 7.1),
        ("Thu, 01 Aug 2013 11:00:00 GMT", 0.1),
        ("Fri, 02 Aug 2013 12:00:00 GMT", 30.1),
        ("soon", 0.1),
        ("-5", 0.1),
        ("Thu, 99 Aug 2013 12:00:07 GMT", 0.1),
    ],
)
def test_retry_after_is_honoured_up_to_a_bound(client, server, clock, after, slept_s):
    server.script = [(503, {"Retry-After": after}, {"error": "busy"})]
    client.predict("flight_delay", ROW)
    assert clock.slept == [slept_s]


def test_the_last_refusal_is_said(client, server):
    server.script = [BUSY] * 4
    with pytest.raises(Unavailable, match=r"answers 503: too many requests are under way: try again \(asked 4 times\)"):
        client.predict("flight_delay", ROW)
    assert len(server.asked) == 4


def test_no_pause_goes_beyond_the_deadline(connect, server, clock):
    server.script = [(503, {"Retry-After": "20"}, {"error": "busy"})] * 4
    with pytest.raises(Unavailable, match=r"busy.*deadline_s of 30 s is over before another try"):
        connect(server.url, deadline_s=30.0).predict("flight_delay", ROW)
    assert clock.slept == [20.1]


def test_an_answer_that_trickles_past_the_deadline_is_given_up(client, server, clock):
    server.script = [TRICKLE]
    server.on_piece = lambda: clock.sleep(61)
    with pytest.raises(Unavailable, match="still coming in at the deadline"):
        client.predict("flight_delay", ROW)


@pytest.mark.parametrize(
    ("step", "kind", "told"),
    [
        (
            (400, {}, {"error": "rows[0]: wind_speed is missing"}),
            DataError,
            r"answers 400: rows\[0\]: wind_speed is mi",
        ),
        ((413, {}, {"error": "send fewer"}), DataError, "answers 413: send fewer"),
        ((408, {}, b"<html>slow</html>"), DataError, "answers 408: <html>slow"),
        ((404, {}, b"404 page not found"), UsageError, "nothing answers for this model at http.*headrace up"),
        ((307, {"Location": "/else"}, b""), UsageError, "points to /else"),
        ((500, {}, {"error": "the model failed"}), Unavailable, "answers 500: the model failed"),
        ((502, {}, b"Bad Gateway"), Unavailable, "answers 502: Bad Gateway"),
        (HALF, Unavailable, "broke off"),
    ],
)
def test_nothing_else_is_tried_again(client, server, clock, step, kind, told):
    server.script = [step]
    with pytest.raises(HeadraceError, match=told) as raised:
        client.predict("flight_delay", ROW)
    assert type(raised.value) is kind
    assert len(server.asked) == 1
    assert clock.slept == []


def good(**changes: Any) -> dict[str, Any]:
    return {"model": "m", "version": 3, "predictions": [{"id": "a", "value": 1}]} | changes


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>Sign in</html>", "not as a model service does: it is not JSON .*Sign in"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"predictions": [{"id": "a", "value": NaN}]}', "not JSON"),
        ({}, "'predictions' is missing"),
        (good(version="3"), "'version' is missing, or is no int"),
        (good(version=True), "'version' is missing, or is no int"),
        (good(model=None), "'model'"),
        (good(predictions=[]), "0 predictions for 1 rows"),
        (good(predictions=[3]), "not an object"),
        (good(predictions=[{"value": 1.0}]), "'id'"),
        (good(predictions=[{"id": "a"}]), "'probabilities'"),
        (good(predictions=[{"id": "a", "value": "1"}]), "'value' is no number"),
    ],
)
def test_a_body_that_is_not_the_protocol_is_said(client, server, body, told):
    server.script = [(200, {}, body)]
    with pytest.raises(Unavailable, match=told):
        client.predict("flight_delay", ROW)


def test_every_task_has_its_prediction(client, server):
    many = [{"id": "a", "probabilities": {"early": 0.25, "late": 0.75}}]
    server.script = [(200, {}, good()), (200, {}, good(predictions=many))]
    assert client.predict("m", ROW).items == (RegressionPrediction("a", 1.0),)
    answer = client.predict("m", ROW)
    assert answer.items == (MulticlassPrediction("a", {"early": 0.25, "late": 0.75}),)
    assert answer.to_frame().to_dict("records") == [{"id": "a", "probability_early": 0.25, "probability_late": 0.75}]


def test_nobody_there_is_said_and_is_neither_live_nor_ready(connect, clock):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        client = connect(f"http://user:secret@127.0.0.1:{held.getsockname()[1]}/")
        with pytest.raises(Unavailable, match=r"does not answer .*, asked 4 times: check the address") as raised:
            client.predict("flight_delay", ROW)
        assert "secret" not in str(raised.value)
        assert isinstance(raised.value.__cause__, httpx.ConnectError)
        assert len(clock.slept) == 3
        assert not client.live()
        assert not client.ready("flight_delay")


def test_health_is_asked_once(client, server, clock):
    server.script = [BUSY, (200, {}, {"ready": True}), (404, {}, b""), (404, {}, b""), (200, {}, b"<html>")]
    assert client.ready("m") is False
    assert client.ready("m") is True
    with pytest.raises(UsageError, match="nothing answers for this model"):
        client.ready("m")
    with pytest.raises(UsageError, match=r"ask ready\(model\)"):
        client.live()
    with pytest.raises(Unavailable, match="not as a model service"):
        client.live()
    assert clock.slept == []


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://host", "http://", "http://h/?a=1", "http://h:port", None])
def test_a_wrong_address_is_refused(url):
    with pytest.raises(UsageError, match="address"):
        Client(url)


@pytest.mark.parametrize(
    "options", [{"retries": -1}, {"timeout_s": 0}, {"deadline_s": float("nan")}, {"batch_rows": 0}]
)
def test_a_wrong_number_is_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        Client("http://127.0.0.1", **options)


def test_a_wrong_name_is_refused(client, server):
    for model, request_id in (("", None), ("..", None), ("m", "a b"), ("m", "")):
        with pytest.raises(UsageError):
            client.predict(model, ROW, request_id=request_id)
    client.predict("a/b c", ROW)
    assert [path for path, _, _ in server.asked] == ["/v1/models/a%2Fb%20c/predict"]


def test_an_httpx_client_of_ones_own_stays_open(server):
    with httpx.Client(trust_env=False, headers={"X-Team": "blue"}) as own:
        with Client(server.url, http=own) as client:
            client.predict("m", ROW)
        assert not own.is_closed
    assert server.asked[0][1]["x-team"] == "blue"


# The real service


def _contract() -> Contract:
    return Contract(
        model="flight_delay",
        description="Whether a flight arrives late.",
        task="binary",
        rows=Rows("rows", "stage", "flight_id", "decided_at"),
        label=Label("late", "Arrives 15 minutes late or more", "known_at", LabelDelay(1, 2, 5)),
        features=(
            Feature("wind_speed", "float", "Wind at the origin.", unit="knots", range=(0.0, 60.0)),
            Feature("distance", "int", "Length of the way.", unit="miles", range=(50, 5000), missing=True),
        ),
        metric="auc",
        business_value=BusinessValue("caught", "minutes", "Delay minutes caught."),
        budgets=Budgets(5.0, 5.0),
        example=ROW,
    )


def _wind_decides() -> bytes:
    """ONNX: the probability of being late is wind_speed / 100."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [-0.01, 0.01, 0, 0])
    offset = helper.make_tensor("b", TensorProto.FLOAT, [2], [1, 0])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0])
    nodes = [
        helper.make_node("IsNaN", ["x"], ["gaps"]),
        helper.make_node("Where", ["gaps", "zero", "x"], ["whole"]),
        helper.make_node("MatMul", ["whole", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "wind",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [weights, offset, zero],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


NOON = datetime(2013, 8, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def label_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, label_log: Path) -> Any:
    directory: Path = tmp_path_factory.mktemp("model")
    (directory / "model.onnx").write_bytes(_wind_decides())
    write_json(directory / "contract.json", _contract())
    write_json(directory / "golden.json", {"rows": [ROW], "predictions": [0.125], "tolerance": 1e-5})
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
    manifest = {"schema_version": 1, "model": "flight_delay", "version": 3, "files": files}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return front(load(directory), Desk(labels=LabelLog(label_log, "flight_delay", rotate_s=3600)))


@pytest.fixture(scope="module")
def service(app: Any) -> Iterator[str]:
    """The address of the real service, on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        # The socket listens already: a request that comes early waits.
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.should_exit = True
        thread.join()


def test_the_real_service_answers_both_clients(connect, service):
    client = connect(service, clock=None, http=None, batch_rows=300)
    assert client.live()
    assert client.ready("flight_delay")
    assert [one.name for one in client.metadata("flight_delay").inputs] == ["wind_speed", "distance"]
    frame = pd.DataFrame({"wind_speed": np.linspace(0, 60, 1000), "distance": [760, None] * 500})
    frame = frame.set_axis(frame.index + 5)
    answer = client.predict("flight_delay", frame)
    found = answer.to_frame()
    assert (answer.model, answer.version) == ("flight_delay", 3)
    np.testing.assert_allclose(found["probability"], frame["wind_speed"] / 100, atol=1e-6)
    pd.testing.assert_index_equal(found.index, frame.index)
    assert found["id"].is_unique
    with pytest.raises(DataError, match="wind_sped"):
        client.predict("flight_delay", {"wind_sped": 1.0, "distance": 760})
    with pytest.raises(UsageError, match="nothing answers for this model"):
        client.predict("flight_dely", ROW)


def test_labels_are_told_in_batches_and_kept(connect, service, label_log):
    client = connect(service, clock=None, http=None, batch_rows=2)
    ids = [item.id for item in client.predict("flight_delay", [ROW] * 3)]
    frame = pd.DataFrame({"prediction_id": ids, "late": [1, 0, 1]})
    assert client.labels("flight_delay", frame) == 3
    assert client.labels("flight_delay", {"flight_id": "UA 7", "late": 0, "decided_at": NOON, "known_at": None}) == 1
    kept = [json.loads(line) for path in label_log.iterdir() for line in path.read_text().splitlines()]
    assert {one["prediction_id"]: one["label"] for one in kept}.items() >= dict(
        zip(ids, [1, 0, 1], strict=True)
    ).items()
    assert (kept[-1]["key"], kept[-1]["decision_time_us"]) == ("UA 7", int(NOON.timestamp() * 1e6))
    with pytest.raises(DataError, match=r"labels\[0\]: 'late' must be 0 or 1.*labels\[0\] is label 2 of 3; .*kept"):
        client.labels("flight_delay", [{"flight_id": str(i), "late": i // 2 * 7} for i in range(3)])
    with pytest.raises(DataError, match="there are no labels"):
        client.labels("flight_delay", [])


def test_many_at_once_through_one_asynchronous_client(app):
    async def ask() -> list[float]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport) as own, AsyncClient("http://service", http=own) as client:
            rows = [{"wind_speed": float(i), "distance": 760} for i in range(20)]
            answers = await asyncio.gather(*(client.predict("flight_delay", row) for row in rows))
            return [item.probability for answer in answers for item in answer]

    np.testing.assert_allclose(asyncio.run(ask()), [i / 100 for i in range(20)], atol=1e-6)
