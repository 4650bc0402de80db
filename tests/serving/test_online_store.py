"""The online store as Feast writes it: equal to Feast's own reading, whatever becomes of the file meanwhile."""

import asyncio
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from headrace.errors import UsageError
from serving import feast_sqlite
from serving.completion import Completion
from serving.feast_format import UNREADABLE, decode, event_time_s, key_prefix, key_suffix
from serving.online_store import Asked, Found, OnlineStore, Stored, open_store
from tests.serving.feast_project import NOON, ROOT, SITES, FeastProject, make_project, tables

UNKNOWN = [*SITES, "nowhere"]


@pytest.fixture(scope="session")
def materialised(tmp_path_factory: pytest.TempPathFactory) -> FeastProject:
    """What Feast wrote; not to be changed."""
    return make_project(tmp_path_factory.mktemp("feast"))


def read(store: OnlineStore, view: str, entity: str, keys: Sequence[str], deadline_s: float = 60) -> Found:
    (found,) = asyncio.run(store.read([Asked(view, entity, keys)], time.monotonic() + deadline_s))
    return found


def load(store: OnlineStore, site: str = "whole") -> float | None:
    """The float that is stored for a site; KeyError if it could not be read."""
    found = read(store, "load", "site", [site])[site]
    return found and found.values["load_pct"]


def exact(value: object) -> object:
    """A value to be compared by type and by bits."""
    return (type(value), struct.pack("<d", value) if isinstance(value, float) else value)


def test_every_value_and_time_is_what_feast_finds(materialised: FeastProject) -> None:
    answer = materialised.feasts_answer(UNKNOWN)
    store = open_store(materialised.url)
    found = read(store, "load", "site", UNKNOWN) | read(store, "health", "machine", ["m"])
    store.close()
    assert answer.pop("site") == UNKNOWN
    features = ["load_pct", "waiting_count", "is_open", "keeper"]
    for position, site in enumerate(UNKNOWN):
        stored = found[site]
        for name in features:
            ours = stored.values[name] if stored else None
            assert exact(ours) == exact(answer[name][position]), (site, name)
            assert (stored.event_time_s if stored else 0) == answer[f"{name}__ts"][position]
    assert found["m"] == Stored({"pulse_hz": 2.0}, NOON.timestamp())
    assert [site for site in UNKNOWN if found[site] is None] == ["old", "nowhere"]


def test_completed_rows_are_what_training_saw(materialised: FeastProject) -> None:
    import pandas as pd

    asked = pd.DataFrame({"id": UNKNOWN, "at": pd.to_datetime([NOON] * len(UNKNOWN)), "site": UNKNOWN, "machine": "m"})
    names = list(materialised.contract.feature_names)
    frame = materialised.store.training_frame(materialised.contract, asked)[names].astype(object)
    store = open_store(materialised.url)
    rows = [{"site": site, "machine": "m", "at": NOON.isoformat()} for site in UNKNOWN]
    contract = materialised.contract
    asyncio.run(Completion(contract, store, 60, lambda: datetime.now(UTC)).complete(rows))
    store.close()
    usable = [site for site in UNKNOWN if site != "bounds"]  # holds a float that is too large for the model
    for row, trained in zip(rows, frame.to_dict("records"), strict=True):
        if row["site"] in usable:
            assert {name: row[name] for name in names} == {
                name: None if pd.isna(value) else value for name, value in trained.items()
            }


@given(text=st.text(max_size=80), entity=st.from_regex(r"[a-z_]{1,20}", fullmatch=True))
def test_keys_are_feasts(text: str, entity: str) -> None:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=[entity], entity_values=[Value(string_val=text)])
    assert key_prefix(entity) + key_suffix(text) == serialize_entity_key(key, entity_key_serialization_version=3)


VALUES = st.one_of(
    st.tuples(st.just("double_val"), st.floats()),
    st.tuples(st.just("float_val"), st.floats(width=32)),
    st.tuples(st.just("int64_val"), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just("int32_val"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("bool_val"), st.booleans()),
    st.tuples(st.just("string_val"), st.text()),
)


@given(VALUES)
def test_values_are_feasts(value: tuple[str, object]) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    (field, given_value) = value
    assert exact(decode(Value(**{field: given_value}).SerializeToString())) == exact(given_value)


@given(
    st.one_of(
        st.binary(max_size=24),
        # Bytes that begin as a value does.
        st.builds(
            bytes.__add__,
            st.sampled_from([b"\x12", b"\x18", b"\x20", b"\x29", b"\x35", b"\x38", b"\x98"]),
            st.binary(max_size=16),
        ),
    )
)
@example(b"\x12" + b"\xa0" + b"\x80" * 9 + b"a" * 20)
@example(b"\x20" + b"\xff" * 9 + b"\x7f")
@example(b"\x38\x02")
@example(b"\x29" + bytes(8) + b"\x29" + bytes(8))
def test_bytes_that_feast_did_not_write_are_unreadable_or_what_protobuf_makes_of_them(data: bytes) -> None:
    from feast.protos.feast.types.Value_pb2 import Value
    from google.protobuf.message import DecodeError

    ours = decode(data)
    if ours is UNREADABLE:
        return
    try:
        theirs = Value.FromString(data)
    except DecodeError:
        pytest.fail(f"protobuf refuses what we take for {ours!r}")
    field = theirs.WhichOneof("val")
    assert exact(ours) == exact(None if field in (None, "null_val") else getattr(theirs, field))


@pytest.mark.parametrize("value", [{"bytes_val": b"x"}, {"unix_timestamp_val": 7}, {"double_list_val": {"val": [1.0]}}])
def test_types_that_no_contract_has_are_unreadable(value: dict[str, object]) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    assert decode(Value(**value).SerializeToString()) is UNREADABLE
    assert decode(Value(null_val=0).SerializeToString()) is None


ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """The machine's time zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


def test_times_are_what_feast_meant_in_any_time_zone(zone: ZoneInfo) -> None:
    from feast.infra.online_stores.sqlite import adapt_datetime_epoch
    from feast.utils import to_naive_utc

    @given(st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)))
    @example(datetime(2013, 11, 3, 1, 30, tzinfo=UTC))
    def check(moment: datetime) -> None:
        digits = moment.replace(tzinfo=zone)
        # An hour of a year is on no clock, and Feast itself reads it as the next.
        assume(digits.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == digits.replace(tzinfo=None))
        assert event_time_s(adapt_datetime_epoch(to_naive_utc(moment))) == moment.replace(microsecond=0).timestamp()

    check()


def test_what_feast_materialises_again_is_seen(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    store = open_store(project.url)
    assert load(store) == 12.5
    changed = tables()["load"]
    changed.loc[changed.site == "whole", "load_pct"] = 77.0
    project.write({"load": changed})
    assert load(store) == 77.0
    store.close()


@pytest.mark.parametrize(
    ("url", "path", "project"),
    [
        ("sqlite:///a/online.db?project=p", "/a/online.db", "p"),
        ("sqlite:////a/online.db?project=p", "/a/online.db", "p"),
        ("sqlite:///a%20b%3F/online.db?project=p_1", "/a b?/online.db", "p_1"),
    ],
)
def test_url_names_a_file_and_a_project(url: str, path: str, project: str) -> None:
    opened = open_store(url)
    assert isinstance(opened, feast_sqlite.FeastSqliteStore)
    assert (opened.path, opened.project) == (Path(path), project)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/a/online.db",
        "mysql:///a?project=p",
        "sqlite:///?project=p",
        "sqlite://host/a?project=p",
        "sqlite:///a%00b?project=p",
        "sqlite:///a?project=p#x",
        "sqlite:///a",
        "sqlite:///a?project=",
        "sqlite:///a?project=p&project=q",
        "sqlite:///a?project=p&mode=rw",
    ],
)
def test_url_of_no_store_says_which_form_it_has(url: str) -> None:
    with pytest.raises(UsageError, match=r"sqlite:///path/online\.db\?project=NAME"):
        open_store(url)


@pytest.mark.parametrize("url", ["redis://localhost:6379", "rediss://u:secret@h/0?project=p"])
def test_redis_is_not_there_yet_and_its_password_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="Redis is not read yet") as refused:
        open_store(url)
    assert "secret" not in str(refused.value)


def test_reading_loads_no_library_of_feasts(materialised: FeastProject) -> None:
    code = (
        "import asyncio, sys, time\n"
        "import serving.completion\n"
        "from serving.online_store import Asked, open_store\n"
        f"reading = open_store({materialised.url!r}).read([Asked('load', 'site', ['whole'])], time.monotonic() + 60)\n"
        "found = asyncio.run(reading)\n"
        "assert found[0]['whole'].values['load_pct'] == 12.5\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'feast', 'pandas', 'mlflow', 'google', 'pyarrow'})\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
