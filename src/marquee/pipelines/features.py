"""
Features: snapshots of what is known of items and users, as of moments of the past and of now.

They are Parquet objects, one for each view, and a manifest whose key is in the counts of the run. With
Feast, its views point to these objects, and the newest features go into its online store.
"""

import io
import json
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from marquee.config import Settings
from marquee.data.schema import Ids
from marquee.errors import NotFoundError
from marquee.features.port import (
    VIEWS,
    BuiltinFeatures,
    FeatureStore,
    HistoricalJoin,
    join_as_of,
    moments,
    view_tables,
)
from marquee.features.snapshot import build
from marquee.pipelines.run import RunContext
from marquee.pipelines.snapshots import Snapshot, read_snapshot, take_snapshot
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import outbox, state

__all__ = ["apply_views", "features", "historical_join", "keep_features", "open_store"]

PREFIX: Final = "features"


def features(context: RunContext) -> dict[str, Any]:
    """
    Take the features of now and of the past, and keep them where settings say.

    Parameters of the run: `snapshot` — the id of a snapshot, default: the data as it is now.

    Returns:
        `features`: the key of the manifest; `features_as_of`, `features_complete_until`: all events that
        came in before then are in them; `features_store`, and rows by view.
    """
    key = context.parameters.get("snapshot")
    if key:
        return keep_features(context, read_snapshot(context.objects, key), None)
    now = datetime.now(UTC)
    return keep_features(context, take_snapshot(context.database, context.objects), now)


def keep_features(context: RunContext, snapshot: Snapshot, began: datetime | None) -> dict[str, Any]:
    """
    As `features`, of a snapshot that is at hand.

    Args:
        began: when it began to be taken; None: some time after its last event.
    """
    wanted = context.settings.features
    known = snapshot.interactions.to_arrow()
    at = moments(snapshot.interactions, wanted.moments)
    context.progress("take features", 0, len(at))
    taken = [build(known, snapshot.catalog, at[0])]
    for done, moment in enumerate(at[1:], 1):
        context.progress("take features", done, len(at))
        taken.append(taken[-1].advance(known, snapshot.catalog, moment))
    context.progress("take features", len(at), len(at))
    tables = view_tables(taken)
    keys = {view: _put(context.objects, f"{PREFIX}/{view}", table) for view, table in tables.items()}
    as_of = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at[-1])
    manifest = {**keys, "as_of": as_of.isoformat(), "snapshot": snapshot.key}
    stored = context.objects.put(PREFIX, json.dumps(manifest, sort_keys=True).encode(), ".json")
    with context.database.begin() as connection:
        outbox.add(connection, [*keys.values(), stored.key])
    if wanted.store == "feast":
        from marquee.feast_store import FeastFeatures

        context.progress("load Feast", 0, 1)
        before = _newest(context.database, "feast")
        with closing(FeastFeatures(context.settings, context.database.url)) as store:
            store.apply(_files(context.objects, manifest))
            store.materialize(as_of, gone=_gone(context.objects, before, tables["users"]))
        context.progress("load Feast", 1, 1)
    return {
        "features": stored.key,
        "features_as_of": manifest["as_of"],
        "features_complete_until": (began or as_of).isoformat(),
        "features_store": wanted.store,
        "moments": len(at),
        **{f"{view}_rows": len(table) for view, table in tables.items()},
    }


def apply_views(settings: Settings, database: Database, objects: ObjectStore) -> list[str]:
    """
    Register the views of the newest features with Feast.

    Returns:
        Their names.

    Raises:
        ConfigError: Feast is not installed.
        NotFoundError: no features have been taken yet.
    """
    from marquee.feast_store import FeastFeatures

    with closing(FeastFeatures(settings, database.url)) as store:
        return store.apply(_files(objects, _manifest(database, objects)))


def open_store(settings: Settings, database: Database, objects: ObjectStore) -> FeatureStore:
    """
    The feature store that settings name, with the newest features.

    Raises:
        ConfigError: it is Feast, which is not installed.
        NotFoundError: no features have been taken yet.
    """
    if settings.features.store == "feast":
        from marquee.feast_store import FeastFeatures

        return FeastFeatures(settings, database.url)
    manifest = _manifest(database, objects)
    return BuiltinFeatures({view: _read(objects, manifest[view]) for view in VIEWS})


def historical_join(settings: Settings) -> HistoricalJoin:
    """
    What training sets are joined by.

    Raises:
        ConfigError: it is Feast, which is not installed.
    """
    if settings.features.store == "feast":
        from marquee import feast_store

        feast_store.require_feast()
        return feast_store.join_as_of
    return join_as_of


def _newest(database: Database, store: str | None = None) -> str | None:
    with database.begin() as connection:
        kept = state.newest_features(connection, store)
    return None if kept is None else kept.key


def _manifest(database: Database, objects: ObjectStore) -> dict[str, str]:
    key = _newest(database)
    if key is None:
        raise NotFoundError("No features have been taken yet.", fix="Run: marquee features materialize")
    found: dict[str, str] = json.loads(objects.get(key))
    return found


def _files(objects: ObjectStore, manifest: Mapping[str, str]) -> dict[str, Path]:
    """View → its file, fetched where it is missing."""
    return {view: objects.local_path(manifest[view]) for view in VIEWS}


def _gone(objects: ObjectStore, before: str | None, users: pa.Table) -> Ids | None:
    """Users of the features before these who are erased since."""
    if before is None:
        return None
    try:
        earlier = _read(objects, json.loads(objects.get(before))["users"])
    except NotFoundError:  # removed, because it named users that were erased
        return None
    return np.setdiff1d(earlier["user_id"].to_numpy(), users["user_id"].to_numpy())


def _put(objects: ObjectStore, prefix: str, table: pa.Table) -> str:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return objects.put(prefix, sink.getvalue(), ".parquet").key


def _read(objects: ObjectStore, key: str) -> pa.Table:
    return pq.read_table(objects.local_path(key))
