"""The user's own logs and own catalogue, from CSV, JSON Lines or Parquet; see docs/data-formats.md."""

from datetime import datetime
from pathlib import Path
from typing import Final

from marquee.ingest.load import IngestReport, Intake, Progress
from marquee.ingest.readers import read_table
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database

__all__ = ["ingest_interactions", "ingest_items"]

ALIASES: Final = {
    "movie_id": "item_id",
    "movieId": "item_id",
    "content_id": "item_id",
    "tmdb_id": "item_id",
    "userId": "user_id",
    "timestamp": "occurred_at",
    "runtime": "runtime_minutes",
}


def ingest_interactions(
    database: Database,
    objects: ObjectStore,
    path: Path,
    *,
    source: str = "interactions",
    progress: Progress | None = None,
    now: datetime | None = None,
) -> IngestReport:
    """
    Load a log of interactions.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl`, `.ndjson` (each also `.gz`) or `.parquet` file.
        source: name of the log; an event is told apart by (source, event key).
        now: the moment of the run; default: the clock.

    Raises:
        SchemaError: the file cannot be read, or lacks `user_id`, `item_id` or `occurred_at`.
    """
    chunks = read_table(path, ALIASES)
    intake = Intake(database, objects, source, progress, now=now)
    intake.keep(path, "".join(path.suffixes[-2:]).lower())
    for chunk in chunks:
        intake.reject(chunk.malformed)
        intake.interactions(chunk.frame)
    return intake.report()


def ingest_items(
    database: Database,
    objects: ObjectStore,
    path: Path,
    *,
    source: str = "items",
    progress: Progress | None = None,
    now: datetime | None = None,
) -> IngestReport:
    """
    Load a catalogue; it needs no TMDB.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl`, `.ndjson` (each also `.gz`) or `.parquet` file.
        source: name of the catalogue.
        now: the moment of the run; default: the clock.

    Raises:
        SchemaError: the file cannot be read, or lacks `item_id` or `title`.
    """
    chunks = read_table(path, ALIASES, multiline=True)
    intake = Intake(database, objects, source, progress, now=now)
    intake.keep(path, "".join(path.suffixes[-2:]).lower())
    for chunk in chunks:
        intake.reject(chunk.malformed)
        intake.items(chunk.frame)
    return intake.report()
