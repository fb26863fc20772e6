"""
The training data as it was: what training reads instead of the database.

A snapshot is three Parquet objects and a manifest that names them. Keys carry content hashes, so the same
data makes the same snapshot however often it is taken, and the manifest's key is its id.
"""

import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from marquee.data import Catalog, Interactions
from marquee.errors import DataError, NotFoundError
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import interactions as interaction_rows
from marquee.store.repositories import items as item_rows
from marquee.store.repositories import outbox

__all__ = ["Snapshot", "read_snapshot", "snapshot_extent", "take_snapshot"]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """
    One state of the data.

    Attributes:
        key: of the manifest in the object store: the snapshot's id.
        popularity: `item_id` and `popularity`, the newest that sources reported; empty without any.
    """

    key: str
    interactions: Interactions
    catalog: Catalog
    popularity: pa.Table


def take_snapshot(database: Database, objects: ObjectStore) -> Snapshot:
    """
    Write the present data to the object store.

    Raises:
        DataError: there are no interactions.
    """
    interactions = interaction_rows.load(database).sorted()
    if not len(interactions):
        raise DataError("There are no interactions to learn from.", fix="Run: marquee pipeline run")
    catalog = item_rows.load_catalog(database)
    popularity = item_rows.facts_as_of(database, datetime.now(UTC)).select(["item_id", "popularity"])
    parts = {"interactions": interactions.to_arrow(), "items": catalog.table, "popularity": popularity}
    keys = {name: _put(objects, f"snapshots/{name}", table) for name, table in parts.items()}
    last = datetime.fromtimestamp(int(interactions.timestamps[-1]) / 1e6, UTC)
    manifest = {**keys, "rows": len(interactions), "last_event_at": last.isoformat()}
    stored = objects.put("snapshots", json.dumps(manifest, sort_keys=True).encode(), ".json")
    with database.begin() as connection:
        outbox.add(connection, [*keys.values(), stored.key])
    return Snapshot(stored.key, interactions, catalog, popularity)


def read_snapshot(objects: ObjectStore, key: str) -> Snapshot:
    """
    A snapshot by its id.

    Raises:
        NotFoundError: there is none.
        StoreError: an object of it is damaged.
    """
    try:
        manifest = json.loads(objects.get(key))
        tables = {
            name: pq.read_table(io.BytesIO(objects.get(manifest[name])))
            for name in ("interactions", "items", "popularity")
        }
    except NotFoundError as error:
        raise NotFoundError(
            f"The snapshot {key} is not there, or not any more: {error.message}",
            fix="Name a newer one, or none: then one is taken. MARQUEE_RETENTION__FILES_DAYS says how long "
            "they are kept.",
        ) from error
    return Snapshot(
        key, Interactions.from_arrow(tables["interactions"]), Catalog(tables["items"]), tables["popularity"]
    )


def snapshot_extent(objects: ObjectStore, key: str) -> tuple[datetime, int]:
    """
    The moment of the last event of a snapshot, and its number of events: greater for newer data.

    Raises:
        NotFoundError: there is no such snapshot.
        StoreError: it is damaged.
    """
    manifest = json.loads(objects.get(key))
    return datetime.fromisoformat(manifest["last_event_at"]), int(manifest["rows"])


def _put(objects: ObjectStore, prefix: str, table: pa.Table) -> str:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return objects.put(prefix, sink.getvalue(), ".parquet").key
