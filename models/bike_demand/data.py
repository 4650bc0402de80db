"""The bike hires of Washington in 2011 as rows to predict and as a feature table; run by the stage of dvc.yaml.

    python models/bike_demand/data.py data/bike_demand

The source is Bikeshare.csv of the ISLP distribution, found through its metadata: importing ISLP needs a deep-learning
stack that nothing here uses. Equal sources give equal bytes. Exit 3 when the source is wrong.
"""

import argparse
import hashlib
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pandas as pd

DISTRIBUTION = "ISLP"
SOURCE = "Bikeshare.csv"
# DVC watches this file, so another source is another dataset, never a silent change.
SOURCE_SHA256 = "ac6950ae6f11efcc69c29d6bb13e8881c001e27d36434660d59444a1414f712c"
COLUMNS = (
    *("season", "mnth", "day", "hr", "holiday", "weekday", "workingday", "weathersit", "temp", "atemp", "hum"),
    *("windspeed", "casual", "registered", "bikers"),
)
HOME_ZONE = "America/New_York"
SYSTEM = "capital"
HOUR = pd.Timedelta(hours=1)
DECISION_LEAD = HOUR
WEEK_HOURS = 7 * 24


class SourceError(Exception):
    """The source is not there, or not the one that this file was written for."""


def read_source() -> pd.DataFrame:
    """Read the file after checking its digest and its columns.

    Raises:
        SourceError: what is wrong, and what to do.
    """
    try:
        path = next(Path(str(file.locate())) for file in files(DISTRIBUTION) or () if file.name == SOURCE)
    except (PackageNotFoundError, StopIteration) as missing:
        raise SourceError(
            f"{SOURCE} of {DISTRIBUTION} is not installed: install the project with its data requirements"
        ) from missing
    if not path.is_file():
        raise SourceError(f"{path} is gone: install {DISTRIBUTION} again")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        raise SourceError(
            f"{path} has sha256 {found}, expected is {SOURCE_SHA256}: install the pinned {DISTRIBUTION}, "
            f"or change SOURCE_SHA256 in {Path(__file__).name} if the new data is wanted"
        )
    frame = pd.read_csv(path)
    if tuple(frame.columns) != COLUMNS:
        raise SourceError(f"{path} has columns {list(frame.columns)}, expected are {list(COLUMNS)}")
    return frame


def with_hour(hires: pd.DataFrame) -> pd.DataFrame:
    """Hires with `hour_start`, the moment (UTC) at which each hour begins.

    The source has the day of the year and the hour on the clock. The hour that the clock skips in March can't be
    there and is refused; the one that it repeats in November is there once and is taken as the first of the two.

    Raises:
        SourceError: an hour is there twice, or does not exist.
    """
    local = pd.Timestamp("2011-01-01") + pd.to_timedelta((hires.day - 1) * 24 + hires.hr, unit="h")
    start = local.dt.tz_localize(HOME_ZONE, ambiguous=[True] * len(local), nonexistent="NaT").dt.tz_convert("UTC")
    wrong = start.isna() | start.duplicated()
    if wrong.any():
        raise SourceError(f"hours that do not exist or are there twice: {local[wrong].astype(str).tolist()[:5]}")
    return hires.assign(hour_start=start).sort_values("hour_start", ignore_index=True)


def make_rows(hires: pd.DataFrame) -> pd.DataFrame:
    """One row an hour: key, decision time, entity, request-time features and label.

    The source gives temperature, humidity and wind on scales from 0 to 1; they are put back into degrees and percent
    by the formulas of its documentation. The unit of the wind is not documented, so it stays a share.
    """
    return pd.DataFrame(
        {
            "hour_id": hires.hour_start.dt.strftime(f"{SYSTEM}-%Y-%m-%dT%HZ"),
            "decision_time": hires.hour_start - DECISION_LEAD,
            "system": SYSTEM,
            "hour": hires.hr,
            "weekday": hires.weekday,
            "workingday": hires.workingday == 1,
            "holiday": hires.holiday == 1,
            "weathersit": hires.weathersit,
            "temperature_c": (hires.temp * 47 - 8).round(2),
            "feels_like_c": (hires.atemp * 66 - 16).round(2),
            "humidity_pct": (hires.hum * 100).round(1),
            "wind_share": hires.windspeed,
            "bikers": hires.bikers.astype(float),
            "label_time": hires.hour_start + HOUR,
        }
    )


def demand_history(hires: pd.DataFrame) -> pd.DataFrame:
    """Demand so far, known at the end of every hour of the year.

    Hours that the source lacks have a line too, so that a week ago is the same hour a week ago.
    `week_ago_bikers` looks at the hour that is decided on at `known_at`: it starts one decision lead later.
    """
    hours = pd.date_range(hires.hour_start.min(), hires.hour_start.max(), freq=HOUR)
    demand = hires.set_index("hour_start").bikers.reindex(hours).astype(float)
    lead = int(DECISION_LEAD / HOUR)
    table = pd.DataFrame(
        {
            "system": SYSTEM,
            "known_at": hours + HOUR,
            "last_hour_bikers": demand.to_numpy(),
            "day_mean_bikers": demand.rolling(24, min_periods=12).mean().round(3).to_numpy(),
            "week_ago_bikers": demand.shift(WEEK_HOURS - 1 - lead).to_numpy(),
        }
    )
    return table


def write(out: Path) -> None:
    """Write the rows, one file a month of the decision (UTC), and the feature table."""
    hires = with_hour(read_source())
    rows = make_rows(hires)
    for month, part in rows.groupby(rows.decision_time.dt.strftime("%Y-%m")):
        _write(part, out / "rows" / f"{month}.parquet")
    _write(demand_history(hires), out / "demand_history.parquet")


def _write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False, compression="zstd")


def main() -> int:
    """Run the stage; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    try:
        write(parser.parse_args().out)
    except SourceError as wrong:
        print(wrong, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
