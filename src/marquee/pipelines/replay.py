"""
Raw files that came in after a backup, loaded again: what is there already adds nothing.

When a file came in counts, not when it reached the archive: one that waited out an outage is taken into
account as the others are.
"""

import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from marquee.config import Settings
from marquee.errors import NotFoundError, SchemaError
from marquee.ingest.movielens import ROLES, ingest_movielens
from marquee.ingest.readers import read_table
from marquee.ingest.sample import ingest_sample
from marquee.ingest.tables import ALIASES, ingest_interactions, ingest_items
from marquee.ingest.tmdb import KeptAnswers
from marquee.pipelines.raw_files import RawFile, raw_files
from marquee.store.backups.vault import Told
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import items as item_rows

__all__ = ["NOT_IN_FILES", "replay"]

NOT_IN_FILES: Final = (
    "events and answers over HTTP, events of virtual viewers, lists made in batches, editors' changes, "
    "deployments, experiments, runs, figures of monitoring, API keys"
)
"""What comes in between a backup and a moment and can be had from PostgreSQL's own log alone."""

EVENTS: Final = {"user_id", "item_id", "occurred_at"}
ITEMS: Final = {"item_id", "title"}
LOADING: Final = timedelta(hours=6)
"""A file is kept before its rows are loaded; the backup may have been taken in between."""
MOVIELENS_NAMES: Final = {".ratings.data": "u.data", ".movies.item": "u.item"}
"""By these names their format is known."""


def replay(
    settings: Settings,
    database: Database,
    objects: ObjectStore,
    after: datetime,
    until: datetime,
    told: Told | None = None,
) -> tuple[dict[str, int], dict[str, str]]:
    """
    Load the raw files of a time again, in the order in which they came in.

    Args:
        after, until: when they came in.

    Returns:
        Key → new rows, and key → why it was not loaded.
    """
    files = sorted(raw_files(objects, after=after - LOADING, until=until), key=lambda file: file.came_in)
    wanted = [file for file in files if after - LOADING < file.came_in <= until]
    loaded: dict[str, int] = {}
    skipped = {
        file.key: f"It came in on {file.day:%Y-%m-%d}; whether before {until:%H:%M:%S} is not known."
        for file in files
        if file.came_in > until and not file.known
    }
    plan = _Plan(settings, database, objects, files)
    for done, file in enumerate(wanted):
        if told is not None:
            told("replay", done, len(wanted))
        try:
            rows = plan.load(file)
        except (SchemaError, NotFoundError) as error:
            skipped[file.key] = error.message
            continue
        if rows is not None:
            loaded[file.key] = rows
    return loaded, skipped


class _Plan:
    """
    What is to be done with each file.

    Args:
        files: all of these days, by time: what is wanted may need older ones beside it.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        objects: ObjectStore,
        files: Sequence[RawFile],
    ) -> None:
        self._settings = settings
        self._database = database
        self._objects = objects
        self._files = files
        self._done: set[str] = set()

    def load(self, file: RawFile) -> int | None:
        """New rows of a file; None where another one has brought or will bring its rows."""
        if file.source == "tmdb":
            return self._answers(file)
        if ".movielens-" in file.ending:
            return self._data_set(file)
        path = self._objects.local_path(file.key)
        now = file.came_in
        database, objects, source = self._database, self._objects, file.source
        if file.source == "sample":
            with database.begin() as connection:
                there = item_rows.count(connection).get("sample")
            return ingest_sample(database, objects, limit=there or 200, now=now).inserted
        if file.ending == ".zip":
            return ingest_movielens(database, objects, path, source=source, now=now).inserted
        columns = set(next((chunk.frame.columns for chunk in read_table(path, ALIASES)), ()))
        if columns >= EVENTS:
            return ingest_interactions(database, objects, path, source=source, now=now).inserted
        if columns >= ITEMS:
            return ingest_items(database, objects, path, source=source, now=now).inserted
        raise SchemaError("It holds neither events nor items.")

    def _answers(self, file: RawFile) -> int:
        kept = KeptAnswers(self._database, self._objects, self._settings.tmdb)
        for other in self._beside(file):
            if other.came_in < file.came_in:
                kept.read(self._objects.local_path(other.key), other.came_in, load=False)
        return kept.read(self._objects.local_path(file.key), file.came_in).inserted

    def _data_set(self, file: RawFile) -> int | None:
        """A MovieLens data set of loose files, of which this is one."""
        beside = [other for other in self._beside(file) if ".movielens-" in other.ending]
        ratings = [other for other in beside if _role(other) == ROLES[0]]
        # Ratings are kept first, what belongs to them behind them.
        own = max((other for other in ratings if other.came_in <= file.came_in), key=_moment, default=None)
        if own is None:
            raise SchemaError("The ratings that it belongs to are missing.")
        if own.key in self._done:
            return None
        self._done.add(own.key)
        following = min((other.came_in for other in ratings if other.came_in > own.came_in), default=None)
        parts = {
            _role(other): other for other in beside if following is None or other.came_in < following
        } | {ROLES[0]: own}
        with tempfile.TemporaryDirectory(prefix="marquee-replay-") as folder:
            names = {role: _name(part) for role, part in parts.items()}
            for role, part in parts.items():
                Path(folder, names[role]).symlink_to(self._objects.local_path(part.key))
            report = ingest_movielens(
                self._database,
                self._objects,
                Path(folder),
                facts=names.get("facts"),
                source=file.source,
                now=own.came_in,
            )
        return report.inserted

    def _beside(self, file: RawFile) -> Iterator[RawFile]:
        return (other for other in self._files if other.folder == file.folder)


def _role(file: RawFile) -> str:
    return file.ending.removeprefix(".movielens-").partition(".")[0]


def _name(file: RawFile) -> str:
    ending = file.ending.removeprefix(".movielens-")
    return MOVIELENS_NAMES.get(f".{ending}", ending)


def _moment(file: RawFile) -> datetime:
    return file.came_in
