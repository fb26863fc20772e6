"""The catalogue that ships inside the package: facts of well-known films, with synopses of our own."""

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final

import orjson

from marquee.ingest.load import IngestReport, Intake, Progress
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database

__all__ = ["ingest_sample"]

FILE: Final = "sample_catalogue.jsonl"
OBSERVED_AT: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""When the changing facts of the sample held, about: they were published as snapshots without a day."""


def ingest_sample(
    database: Database,
    objects: ObjectStore,
    *,
    limit: int = 200,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> IngestReport:
    """
    Bring the most popular films of the packaged catalogue into the database.

    Items that another source has brought keep its facts.

    Args:
        limit: how many films, > 0; the package has more than 500.
        now: the moment of the run; default: the clock.

    Raises:
        ValueError: `limit` is not positive.
    """
    if limit <= 0:
        raise ValueError(f"limit must be positive, not {limit}")
    content = resources.files("marquee.ingest").joinpath(FILE).read_bytes()
    intake = Intake(database, objects, "sample", progress, now=now)
    intake.keep(content, ".jsonl")
    films = [orjson.loads(line) for line in content.splitlines()]
    films.sort(key=lambda film: (-film["popularity"], film["item_id"]))
    chosen = films[:limit]
    intake.expect(len(chosen))
    intake.items(
        [_row(film) for film in chosen],
        texts=[text for film in chosen for text in _texts(film)],
        observed_at=OBSERVED_AT,
        fill_only=True,
    )
    return intake.report()


def _row(film: Mapping[str, Any]) -> dict[str, Any]:
    people = dict.fromkeys([*film["directors"], *film["cast"]])
    same = (
        "item_id",
        "title",
        "original_title",
        "release_date",
        "runtime_minutes",
        "genres",
        "keywords",
        "original_language",
        "popularity",
        "vote_average",
        "vote_count",
        "poster_path",
        "adult",
    )
    return {name: film.get(name) for name in same} | {
        "people": list(people),
        "collection_id": _collection_id(film["collection"]),
        "overview": film["synopsis"],
    }


def _collection_id(name: str | None) -> int | None:
    """A number for a series that the sample knows by name only; below any of TMDB's, so that none meet."""
    return None if name is None else -1 - zlib.crc32(name.encode())


def _texts(film: Mapping[str, Any]) -> list[dict[str, Any]]:
    texts = [
        {
            "item_id": film["item_id"],
            "language": "en",
            "title": film["title"],
            "overview": film["synopsis"],
            "poster_path": film.get("poster_path"),
        }
    ]
    if film.get("title_ko"):
        texts.append({"item_id": film["item_id"], "language": "ko", "title": film["title_ko"]})
    return texts
