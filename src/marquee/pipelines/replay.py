"""Raw files that came in after a backup, loaded again: what is there already adds nothing."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from marquee.errors import SchemaError
from marquee.ingest.load import IngestReport
from marquee.ingest.movielens import ingest_movielens
from marquee.ingest.readers import read_table
from marquee.ingest.sample import ingest_sample
from marquee.ingest.tables import ALIASES, ingest_interactions, ingest_items
from marquee.store.backups import Vault
from marquee.store.backups.vault import Told
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database

__all__ = ["replay"]

EVENTS: Final = {"user_id", "item_id", "occurred_at"}
ITEMS: Final = {"item_id", "title"}


def replay(
    database: Database,
    objects: ObjectStore,
    vault: Vault,
    after: datetime,
    until: datetime,
    told: Told | None = None,
) -> tuple[dict[str, int], list[str]]:
    """
    Load the raw files of a time again, in the order in which they came in.

    Args:
        after, until: when they were stored; with an archive, when they arrived there.

    Returns:
        Key → new rows, and the keys of files that hold nothing that can be loaded again.
    """
    stored = {item.key: item.modified for item in vault.remote.list("raw")}
    for ref in objects.list("raw"):
        stored[ref.key] = datetime.fromtimestamp((objects.root / ref.key).stat().st_mtime, UTC)
    wanted = sorted((at, key) for key, at in stored.items() if after < at <= until)
    loaded: dict[str, int] = {}
    skipped: list[str] = []
    for done, (_, key) in enumerate(wanted):
        if told is not None:
            told("replay", done, len(wanted))
        path = objects.local_path(key)
        load = _loader(database, objects, path, source=key.split("/")[1])
        if load is None:
            skipped.append(key)
        else:
            loaded[key] = load().inserted
    return loaded, skipped


def _loader(
    database: Database, objects: ObjectStore, path: Path, *, source: str
) -> Callable[[], IngestReport] | None:
    if source == "sample":
        return lambda: ingest_sample(database, objects)
    if path.suffix == ".zip":
        return lambda: ingest_movielens(database, objects, path, source=source)
    try:
        columns = set(next(iter(read_table(path, ALIASES))).frame.columns)
    except (SchemaError, StopIteration):
        return None
    if columns >= EVENTS:
        return lambda: ingest_interactions(database, objects, path, source=source)
    if columns >= ITEMS:
        return lambda: ingest_items(database, objects, path, source=source)
    return None  # answers of TMDB, or parts of a data set that mean something only together
