"""What the database holds, in figures, at a cost that does not grow with the number of events."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, TextClause, text

__all__ = ["EXACT_ROWS", "CatalogueSummary", "catalogue"]

EXACT_ROWS: Final = 200_000
"""Larger tables of events and users are not counted but estimated, by PostgreSQL's statistics."""
GENRES: Final = 100

_ITEMS: Final = text(
    """
    SELECT count(*) AS items, count(*) FILTER (WHERE block) AS blocked, count(*) FILTER (WHERE pin) AS pinned,
        count(*) FILTER (WHERE boost <> 1) AS boosted,
        count(*) FILTER (WHERE poster_path <> '') AS with_poster,
        count(*) FILTER (WHERE overview <> '') AS with_overview,
        (SELECT count(*) FROM items WHERE removed_at IS NOT NULL) AS removed
    FROM items WHERE removed_at IS NULL
    """
)
_LANGUAGES: Final = text(
    """
    SELECT language, count(*) FROM item_texts JOIN items USING (item_id)
    WHERE removed_at IS NULL AND coalesce(item_texts.title, item_texts.overview) IS NOT NULL
    GROUP BY 1 ORDER BY 2 DESC, 1
    """
)
_SOURCES: Final = text(
    "SELECT source, count(*) FROM items WHERE removed_at IS NULL GROUP BY 1 ORDER BY 2 DESC, 1"
)
_GENRES: Final = text(
    f"""
    SELECT genre, count(DISTINCT item_id) FROM items, unnest(genres) AS genre WHERE removed_at IS NULL
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {GENRES}
    """
)
# Not the statistics alone: a table that has just been filled has none yet.
_AT_LEAST: Final = "SELECT count(*) FROM (SELECT FROM {table} LIMIT {limit}) AS few"
_ESTIMATE: Final = text("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(:table)")
_NEWEST: Final = text(
    """
    SELECT max(occurred_at) FROM (
        SELECT occurred_at FROM interactions ORDER BY interaction_id DESC LIMIT :rows
    ) AS newest
    """
)


@dataclass(frozen=True, slots=True)
class CatalogueSummary:
    """
    The catalogue and what was done with it; all but `removed` count films that are not removed.

    Attributes:
        languages: language → films with a text in it.
        by_genre: (genre, films), the most first.
        interactions, users: exact up to `EXACT_ROWS`, estimates beyond.
        newest_event_at: when the newest of the last `EXACT_ROWS` events that came in took place.
    """

    items: int
    removed: int
    blocked: int
    pinned: int
    boosted: int
    with_poster: int
    with_overview: int
    languages: dict[str, int]
    by_source: dict[str, int]
    by_genre: list[tuple[str, int]]
    interactions: int
    users: int
    newest_event_at: datetime | None


def catalogue(connection: Connection) -> CatalogueSummary:
    """The figures of now."""
    counts: dict[str, Any] = dict(connection.execute(_ITEMS).one()._mapping)
    return CatalogueSummary(
        **counts,
        languages=_pairs(connection, _LANGUAGES),
        by_source=_pairs(connection, _SOURCES),
        by_genre=list(_pairs(connection, _GENRES).items()),
        interactions=_rows(connection, "interactions"),
        users=_rows(connection, "users"),
        newest_event_at=connection.scalar(_NEWEST, {"rows": EXACT_ROWS}),
    )


def _pairs(connection: Connection, query: TextClause) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(query)}


def _rows(connection: Connection, table: str) -> int:
    counted = connection.scalar(text(_AT_LEAST.format(table=table, limit=EXACT_ROWS + 1))) or 0
    if counted <= EXACT_ROWS:
        return counted
    return max(connection.scalar(_ESTIMATE, {"table": table}) or 0, counted)
