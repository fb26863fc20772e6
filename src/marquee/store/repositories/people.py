"""What is known of one person: their history as they see it, and everything, for them to take along."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, text, tuple_

from marquee.store.repositories.interactions import effective
from marquee.store.repositories.search import TEXT_OF_LANGUAGE
from marquee.store.tables import interactions

__all__ = ["SECTIONS", "HistoryKey", "Past", "Section", "history", "kind_of", "read_section"]

HistoryKey = tuple[int, int]
"""When it happened, in microseconds since 1970, and the interaction id."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LIVE: Final = "live"


class Section(NamedTuple):
    """A table's part of an export: its columns, the rows of `:user_id`, and what tells these apart."""

    columns: str
    rows: str
    key: tuple[str, ...]


SECTIONS: Final = {
    "profile": Section(
        "user_id, kind, created_at, erased_at", "users WHERE user_id = :user_id", ("user_id",)
    ),
    "interactions": Section(
        "interaction_id, item_id, event, rating, watch_seconds, occurred_at, ingested_at, source, event_key, "
        "revokes, request_id",
        "interactions WHERE user_id = :user_id",
        ("interaction_id",),
    ),
    "impressions": Section(
        "request_id, served_at, item_ids, scores, propensities, bundle, arm, surface, viewed_at, tier, "
        "experiment_id, duration_ms, error",
        "impressions WHERE user_id = :user_id",
        ("served_at", "request_id"),
    ),
    "shadow_answers": Section(
        "request_id, s.served_at, s.bundle, s.item_ids, s.scores, s.agreement, s.duration_ms, s.error",
        "shadow_answers AS s JOIN impressions AS i USING (request_id) WHERE i.user_id = :user_id",
        ("served_at", "request_id", "bundle"),
    ),
    "predictions": Section(
        "prediction_id, item_id, rating, watch_seconds, popularity, item_ids, scores, bundle, created_at",
        "predictions WHERE user_id = :user_id",
        ("prediction_id",),
    ),
    "recommendations": Section(
        "generation, item_ids, scores", "recommendations WHERE user_id = :user_id", ("generation",)
    ),
    "quarantine": Section(
        "quarantine_id, source, reason, content, created_at",
        "quarantine WHERE content->>'user_id' = CAST(:user_id AS text)",
        ("quarantine_id",),
    ),
}
"""Everything that is kept of a person, in the order of an export."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """
    One event of a history that counts.

    Attributes:
        event_key: as its client gave it or was given it, to undo it by; None where only its source can.
        title: None of an item that the catalogue never had.
    """

    item_id: int
    title: str | None
    poster_path: str | None
    event: str
    rating: float | None
    watch_seconds: float | None
    occurred_at: datetime
    event_key: str | None


def kind_of(connection: Connection, user_id: int) -> str | None:
    """`virtual`, `imported`, `live` or `erased`; None of a user of whom nothing is known."""
    query = text(
        "SELECT CASE WHEN erased_at IS NULL THEN kind ELSE 'erased' END FROM users WHERE user_id = :id"
    )
    kind: str | None = connection.execute(query, {"id": user_id}).scalar_one_or_none()
    return kind


def history(
    connection: Connection,
    user_id: int,
    *,
    language: str | None = None,
    after: HistoryKey | None = None,
    limit: int = 20,
) -> list[tuple[HistoryKey, Past]]:
    """
    A page of what a user did, newest first; what is undone is left out, and so is everything of the erased.

    Args:
        language: of titles, where there are such.
        after: key of the last event of the page before.
    """
    table = interactions
    query = effective(user_id, list(table.c)).order_by(
        table.c.occurred_at.desc(), table.c.interaction_id.desc()
    )
    if after is not None:
        moment = EPOCH + timedelta(microseconds=after[0])
        query = query.where(tuple_(table.c.occurred_at, table.c.interaction_id) < (moment, after[1]))
    rows = connection.execute(query.limit(limit)).all()
    named = _titles(connection, [row.item_id for row in rows], language)
    return [
        (
            ((row.occurred_at - EPOCH) // timedelta(microseconds=1), row.interaction_id),
            Past(
                item_id=row.item_id,
                title=named[row.item_id].title if row.item_id in named else None,
                poster_path=named[row.item_id].poster_path if row.item_id in named else None,
                event=row.event,
                rating=row.rating,
                watch_seconds=row.watch_seconds,
                occurred_at=row.occurred_at,
                event_key=row.event_key.removeprefix(f"{user_id}:") if row.source == LIVE else None,
            ),
        )
        for row in rows
    ]


def read_section(
    connection: Connection, name: str, user_id: int, *, after: tuple[Any, ...] | None, limit: int
) -> list[dict[str, Any]]:
    """
    Some rows of a section of `SECTIONS`.

    Args:
        after: the values of the section's key in the last row that was read.
    """
    section = SECTIONS[name]
    key = ", ".join(section.key)
    beyond, parameters = "true", {"user_id": user_id, "limit": limit}
    if after is not None:
        beyond = f"({key}) > ({', '.join(f':after{i}' for i in range(len(after)))})"
        parameters |= {f"after{i}": part for i, part in enumerate(after)}
    rows = connection.execute(
        text(
            f"SELECT * FROM (SELECT {section.columns} FROM {section.rows}) AS kept "
            f"WHERE {beyond} ORDER BY {key} LIMIT :limit"
        ),
        parameters,
    )
    return [dict(row._mapping) for row in rows]


def _titles(connection: Connection, item_ids: list[int], language: str | None) -> dict[int, Row[Any]]:
    """Titles and posters by item id, of removed items too: the past stays as it was."""
    query = text(
        "SELECT i.item_id, coalesce(t.title, i.title) AS title, "
        "coalesce(t.poster_path, i.poster_path) AS poster_path "
        f"FROM items AS i {TEXT_OF_LANGUAGE} WHERE i.item_id = ANY(CAST(:item_ids AS bigint[]))"
    )
    rows = connection.execute(query, {"item_ids": item_ids, "language": language})
    return {row.item_id: row for row in rows}
