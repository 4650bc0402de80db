"""The features of a handful of flights, by hand."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("flight_data", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


data = load("models/flight_delay/data.py")
AIRPORTS = pd.DataFrame({"faa": ["ORD", "BOS"], "tzone": ["America/Chicago", "America/New_York"]})


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(f"2013-{text}", tz="UTC")


def flights(*given: dict[str, Any]) -> pd.DataFrame:
    """Flights on the second of January from LaGuardia to Chicago, at 9:00 and two hours long unless told."""
    usual = {
        **{"year": 2013, "month": 1, "day": 2, "sched_arr_time": 1000.0, "carrier": "AA", "flight": 1},
        **{"tailnum": "N1", "origin": "LGA", "dest": "ORD", "distance": 733, "minute": 0},
        **{"time_hour": "2013-01-02T14:00:00Z", "dep_delay": 0.0, "arr_delay": 0.0},
    }
    return data.with_moments(pd.DataFrame([usual | one for one in given]), AIRPORTS)


def departing(*delays: tuple[str, float | None]) -> pd.DataFrame:
    """Flights that were to leave at hour:minute New York time, each so many minutes late; None was cancelled."""
    parts = [(int(clock[:2]), int(clock[3:]), delay) for clock, delay in delays]
    return flights(
        *(
            {"time_hour": f"2013-01-02T{hour + 5:02d}:00:00Z", "minute": minute, "dep_delay": delay, "flight": number}
            | ({"arr_delay": None} if delay is None else {})
            for number, (hour, minute, delay) in enumerate(parts)
        )
    )


def test_moments_are_utc_on_the_clock_of_each_airport() -> None:
    flight = flights({"dep_delay": 10.0, "arr_delay": 20.0}).iloc[0]
    assert flight.scheduled_departure == at("01-02 14:00")
    assert flight.departure == at("01-02 14:10")
    assert flight.scheduled_arrival == at("01-02 16:00")
    assert flight.arrival == at("01-02 16:20")


def test_arrival_after_midnight_is_on_the_next_day() -> None:
    flight = flights({"time_hour": "2013-01-03T03:00:00Z", "sched_arr_time": 15.0, "dest": "BOS"}).iloc[0]
    assert flight.scheduled_arrival == at("01-03 05:15")


def test_decision_is_one_hour_before_the_scheduled_departure() -> None:
    row = data.make_rows(flights({"dep_delay": 50.0})).iloc[0]
    assert row.decision_time == at("01-02 13:00")
    assert (row.departure_minute, row.departure_weekday, row.scheduled_elapsed_min) == (540, 2, 120)


@pytest.mark.parametrize(("delay", "late", "minutes"), [(14.0, 0, 14), (15.0, 1, 15), (-8.0, 0, 0)])
def test_late_is_fifteen_minutes_and_known_at_the_arrival(delay: float, late: int, minutes: float) -> None:
    row = data.make_rows(flights({"arr_delay": delay})).iloc[0]
    assert row.late == late
    assert row.delay_minutes == minutes
    assert row.label_time == at("01-02 16:00") + pd.Timedelta(minutes=delay)


def test_cancelled_and_diverted_flights_stay_without_a_label() -> None:
    gone = flights(
        {"flight": 1, "dep_delay": None, "arr_delay": None},
        {"flight": 2, "dep_delay": 30.0, "arr_delay": None},
        {"flight": 3},
    )
    rows = data.make_rows(gone).set_index("flight_id")
    assert rows.late.isna().tolist() == [True, True, False]
    assert rows.label_time.isna().tolist() == [True, True, False]
    assert rows.delay_minutes.isna().tolist() == [True, True, False]


def test_a_flight_has_one_key() -> None:
    rows = data.make_rows(flights({"flight": 1}, {"flight": 2}, {"flight": 1, "carrier": "DL"}))
    assert rows.flight_id.tolist() == ["2013-01-02-AA-1-LGA", "2013-01-02-AA-2-LGA", "2013-01-02-DL-1-LGA"]


def test_departures_of_the_last_two_hours_by_hand() -> None:
    table = data.origin_departures(departing(("09:00", 0), ("09:30", 30), ("11:00", 20), ("11:10", None)))
    assert table.departure.tolist() == [at("01-02 14:00"), at("01-02 15:00"), at("01-02 16:20")]
    # 9:00 left at 9:00 and 9:30 at 10:00; at 11:20 only the one of 10:00 is less than two hours old.
    assert table.origin_delay_min.tolist() == [0, 15, 25]
    assert table.origin_late_share.tolist() == [0, 0.5, 1]
    assert table.origin_departure_count.tolist() == [1, 2, 2]


def test_departures_at_one_moment_are_one_line_that_has_seen_them_all() -> None:
    table = data.origin_departures(departing(("09:00", 30), ("09:30", 0)))
    assert table.departure.tolist() == [at("01-02 14:30")]
    assert table.origin_delay_min.tolist() == [15]


def test_cancelled_and_diverted_flights_are_in_no_arrival_feature() -> None:
    table = data.carrier_arrivals(flights({"arr_delay": 40.0}, {"flight": 2, "arr_delay": None}))
    assert table.carrier_delay_min.tolist() == [40]
    assert table.arrival.tolist() == [at("01-02 16:40")]


def test_arrivals_are_remembered_for_a_day_and_by_carrier() -> None:
    table = data.carrier_arrivals(
        flights(
            {"arr_delay": 60.0},
            {"day": 3, "time_hour": "2013-01-03T14:00:00Z", "arr_delay": 0.0},
            {"day": 3, "time_hour": "2013-01-03T15:00:00Z", "sched_arr_time": 1100.0, "arr_delay": 30.0},
            {"carrier": "DL", "arr_delay": 5.0},
        )
    )
    own = table[table.carrier == "AA"]
    assert own.carrier_delay_min.tolist() == [60, 30, 15]
    assert own.carrier_late_share.tolist() == [1, 0.5, 0.5]
    assert table[table.carrier == "DL"].carrier_delay_min.tolist() == [5]


def test_no_feature_is_known_before_its_event() -> None:
    seen = departing(("09:00", 10), ("09:20", 45), ("10:00", None), ("12:00", -5))
    assert set(data.origin_departures(seen).departure) == set(seen.departure.dropna())
    assert set(data.carrier_arrivals(seen).arrival) == set(seen.arrival.dropna())


def test_a_departure_changes_no_earlier_line() -> None:
    calm = departing(("09:00", 0), ("09:30", 10), ("10:00", 0))
    stormy = departing(("09:00", 0), ("09:30", 10), ("10:00", 300))
    before = at("01-02 15:00")
    tables = [data.origin_departures(one) for one in (calm, stormy)]
    first, second = (table[table.departure < before] for table in tables)
    pd.testing.assert_frame_equal(first, second)


def test_an_observation_is_known_when_its_hour_is_over_and_a_wrong_wind_is_none() -> None:
    numbers = {"humid": 50.0, "wind_gust": None, "precip": 0.0, "pressure": 1000.0, "visib": 10.0}
    weather = pd.DataFrame(
        [
            {"origin": "EWR", "time_hour": "2013-02-12T08:00:00Z", "wind_speed": 1048.4} | numbers,
            {"origin": "EWR", "time_hour": "2013-02-12T09:00:00Z", "wind_speed": 9.2} | numbers,
        ]
    )
    table = data.weather_table(weather)
    assert table.known_at.tolist() == [at("02-12 09:00"), at("02-12 10:00")]
    assert table.wind_speed_mph.isna().tolist() == [True, False]


def test_a_plane_without_a_build_year_has_no_age() -> None:
    table = data.planes_table(pd.DataFrame({"tailnum": ["N1", "N2"], "year": [1999, None], "seats": [100, 50]}))
    assert table.plane_age_years.isna().tolist() == [False, True]
    assert table.plane_age_years.iloc[0] == 14


def test_another_source_is_refused_with_both_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.SOURCES, "airlines.csv", "0" * 64)
    with pytest.raises(data.SourceError, match=f"(?s)sha256 [0-9a-f]{{64}}, expected is {'0' * 64}"):
        data.read_source("airlines.csv")


def test_missing_distribution_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "DISTRIBUTION", "nycflights1913")
    with pytest.raises(data.SourceError, match="of nycflights1913 is not installed"):
        data.read_source("airlines.csv")
