"""An offline store for Feast that looks values up as of a time instead of joining everything to everything.

Feast's file stores join all feature rows of a key to all rows of that key and choose afterwards: 80,000 flights
against 100,000 feature rows of three airports are billions of lines. They also drop rows: those that share all join
keys and the time, and those for which every feature row is too old. Here each row stays, in its order.

How a store is plugged in: https://docs.feast.dev/how-to-guides/customizing-feast/adding-a-new-offline-store
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from feast.feature_view import FeatureView
from feast.infra.offline_stores.dask import DaskOfflineStore, DaskOfflineStoreConfig, DaskRetrievalJob
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from feast.utils import _get_requested_feature_views_to_features_dict, _get_requested_on_demand_feature_views

TIME = DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL
_TIME = "__feature_time"
_ROW = "__row"


class AsofOfflineStoreConfig(DaskOfflineStoreConfig):
    """What ``offline_store:`` in feature_store.yaml may say; Feast finds it by the store's name."""

    type: Literal["headrace.adapters.feast_offline.AsofOfflineStore"] = (
        "headrace.adapters.feast_offline.AsofOfflineStore"
    )


class AsofRetrievalJob(DaskRetrievalJob):
    """A retrieval whose evaluation gives a pandas frame."""

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self.evaluation_function()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return pa.Table.from_pandas(self.evaluation_function(), preserve_index=False)


class AsofOfflineStore(DaskOfflineStore):
    """Feast's file store with another point-in-time join; all else, materialisation included, is inherited."""

    # Judging by when a value was written needs a column of that time, which our sources do not have: Feast refuses.
    supports_filter_by_created_timestamp = False

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """Every row with the latest values that were known at its `event_timestamp`.

        A value counts when its time is not after the row's and at most the view's ttl before it, both inclusive. Of
        several values of one time the last created counts, and without a creation time the last in the file.

        Args:
            config: paths of sources are relative to its `repo_path`.
            feature_views: the views to look in.
            feature_refs: ``view:feature``.
            entity_df: has the join keys and `event_timestamp`; rows keep their order, null keys find nothing.
            registry: Feast's registry.
            project: Feast's project.
            full_feature_names: columns are named ``view__feature``.
            kwargs: `start_date` and `end_date`, which go without rows only.

        Raises:
            ValueError: `entity_df` is not a frame with `event_timestamp`.
        """
        if not isinstance(entity_df, pd.DataFrame) or TIME not in entity_df.columns:
            raise ValueError(f"rows have to be a DataFrame with a column {TIME!r}")
        on_demand = _get_requested_on_demand_feature_views(feature_refs, config.project, registry)
        wanted, _ = _get_requested_feature_views_to_features_dict(feature_refs, feature_views, on_demand)
        return AsofRetrievalJob(
            evaluation_function=lambda: _evaluate(config, wanted, entity_df, full_feature_names),
            full_feature_names=full_feature_names,
            repo_path=str(config.repo_path),
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=_metadata(feature_refs, entity_df),
        )


def _metadata(feature_refs: list[str], rows: pd.DataFrame) -> RetrievalMetadata:
    return RetrievalMetadata(
        features=feature_refs,
        keys=[name for name in rows.columns if name != TIME],
        min_event_timestamp=rows[TIME].min(),
        max_event_timestamp=rows[TIME].max(),
    )


def _evaluate(
    config: RepoConfig, wanted: Mapping[FeatureView, Sequence[str]], rows: pd.DataFrame, full_feature_names: bool
) -> pd.DataFrame:
    frame = rows.assign(**{TIME: pd.to_datetime(rows[TIME], utc=True).astype("datetime64[ns, UTC]")})
    for view, features in wanted.items():
        names = _column_names(view, features, full_feature_names)
        frame = _join(frame, _read(config, view, features, frame[TIME]).rename(columns=names), view)
    return frame


def _column_names(view: FeatureView, features: Sequence[str], full: bool) -> dict[str, str]:
    prefix = f"{view.projection.name_to_use()}__" if full else ""
    return {**{name: f"{prefix}{name}" for name in features}, **view.projection.join_key_map}


def _join_keys(view: FeatureView) -> list[str]:
    return [view.projection.join_key_map.get(column.name, column.name) for column in view.entity_columns]


def _read(config: RepoConfig, view: FeatureView, features: Sequence[str], times: pd.Series) -> pd.DataFrame:
    """A view's rows that can matter to `times`, one for each key and time, ascending by time."""
    source = view.batch_source
    uri = FileSource.get_uri_for_file_path(repo_path=config.repo_path, uri=source.file_options.uri)
    filesystem, path = FileSource.create_filesystem_and_path(uri, source.file_options.s3_endpoint_override)
    data = ds.dataset(path, filesystem=filesystem, format="parquet")
    stored = {new: old for old, new in source.field_mapping.items()}
    keys = [column.name for column in view.entity_columns]
    names = [*keys, source.timestamp_field, source.created_timestamp_column, *features]
    columns = list(dict.fromkeys(stored.get(name, name) for name in names if name))
    table = data.to_table(columns=columns).to_pandas().rename(columns=source.field_mapping)
    table[_TIME] = pd.to_datetime(table[source.timestamp_field], utc=True).astype("datetime64[ns, UTC]")
    oldest = times.min() - _ttl(view) if _ttl(view) else table[_TIME].min()
    table = table[(table[_TIME] >= oldest) & (table[_TIME] <= times.max())].dropna(subset=keys)
    order = [_TIME, source.created_timestamp_column] if source.created_timestamp_column else [_TIME]
    table = table.sort_values(order, kind="stable").drop_duplicates([*keys, _TIME], keep="last")
    return table[[*keys, *features, _TIME]]


def _ttl(view: FeatureView) -> timedelta | None:
    return view.ttl if view.ttl and view.ttl.total_seconds() else None


def _join(frame: pd.DataFrame, values: pd.DataFrame, view: FeatureView) -> pd.DataFrame:
    keys = _join_keys(view)
    features = [name for name in values.columns if name not in (*keys, _TIME)]
    rows = frame[[*keys, TIME]].assign(**{_ROW: range(len(frame))}).dropna().sort_values(TIME, kind="stable")
    rows, values = rows.astype(dict.fromkeys(keys, object)), values.astype(dict.fromkeys(keys, object))
    found = pd.merge_asof(rows, values, left_on=TIME, right_on=_TIME, by=keys, tolerance=_tolerance(view))
    aligned = found.set_index(_ROW)[features].reindex(range(len(frame))).set_index(frame.index)
    return frame.drop(columns=[name for name in features if name in frame.columns]).join(aligned)


def _tolerance(view: FeatureView) -> pd.Timedelta | None:
    ttl = _ttl(view)
    return pd.Timedelta(ttl) if ttl else None
