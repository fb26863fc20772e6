"""What is known of users in a few numbers: how much they did, and which genres they watch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select, text

from marquee.store.repositories.interactions import UserKind, effective
from marquee.store.tables import interactions, users

__all__ = ["Profile", "UserSummary", "get", "listed"]

NEWEST: Final = 500
"""So many events of a user tell the genres that they watch."""

OF_EACH_USER: Final = """
SELECT {what} FROM unnest(CAST(:user_ids AS bigint[])) AS chosen (user_id) CROSS JOIN LATERAL (
    SELECT item_id, event, rating FROM interactions AS i
    WHERE i.user_id = chosen.user_id AND event <> 'undo' AND NOT EXISTS (
        SELECT FROM interactions AS u
        WHERE u.user_id = i.user_id AND u.source = i.source AND u.revokes = i.event_key
    )
    {bound}
) AS told
"""
GENRES: Final = (
    OF_EACH_USER.format(
        what="chosen.user_id, genre, count(DISTINCT told.item_id) AS n",
        bound=f"ORDER BY occurred_at DESC LIMIT {NEWEST}",
    )
    + """
JOIN items USING (item_id) CROSS JOIN LATERAL unnest(items.genres) AS genre
WHERE event IN ('watch', 'like') OR (event = 'rate' AND rating > 4)
GROUP BY chosen.user_id, genre
"""
)
COUNTS: Final = (
    OF_EACH_USER.format(what="chosen.user_id, count(*) AS n", bound="") + "GROUP BY chosen.user_id"
)

Genres = dict[str, int]
"""Genre → items of it that were watched, liked or not rated badly, among the newest events."""


@dataclass(frozen=True)
class UserSummary:
    """
    A user in a list.

    Attributes:
        events: that count.
        genres: of what they watch.
    """

    user_id: int
    kind: UserKind
    events: int
    genres: Genres


@dataclass(frozen=True)
class Profile:
    """
    One user.

    Attributes:
        kind: `virtual`, `imported`, `live` or `erased`; None of a user of whom nothing is known.
        events: that count, by their kind.
        genres: of what they watch.
    """

    user_id: int
    kind: str | None
    created_at: datetime | None
    events: dict[str, int]
    first_event_at: datetime | None
    last_event_at: datetime | None
    genres: Genres


def listed(connection: Connection, *, kind: UserKind | None = None, limit: int = 20) -> list[UserSummary]:
    """
    The first users by their number, the erased left out.

    Args:
        kind: only of these.
    """
    query = select(users.c.user_id, users.c.kind).where(users.c.erased_at.is_(None))
    if kind is not None:
        query = query.where(users.c.kind == kind)
    found = connection.execute(query.order_by(users.c.user_id).limit(limit)).all()
    user_ids = [row.user_id for row in found]
    counts: dict[int, int] = {
        row.user_id: row.n for row in connection.execute(text(COUNTS), {"user_ids": user_ids})
    }
    genres = _genres(connection, user_ids)
    return [
        UserSummary(row.user_id, row.kind, counts.get(row.user_id, 0), genres[row.user_id]) for row in found
    ]


def get(connection: Connection, user_id: int) -> Profile:
    """What is known of a user; of one who is erased, or was never seen, next to nothing."""
    row = connection.execute(select(users).where(users.c.user_id == user_id)).one_or_none()
    if row is None or row.erased_at is not None:
        return Profile(user_id, None if row is None else "erased", None, {}, None, None, {})
    told = effective(user_id, [interactions.c.event, interactions.c.occurred_at]).subquery()
    query = select(
        told.c.event, func.count().label("n"), func.min(told.c.occurred_at), func.max(told.c.occurred_at)
    )
    rows: list[Any] = list(connection.execute(query.group_by(told.c.event).order_by(told.c.event)))
    return Profile(
        user_id,
        row.kind,
        row.created_at,
        {event: n for event, n, _, _ in rows},
        min((first for _, _, first, _ in rows), default=None),
        max((last for _, _, _, last in rows), default=None),
        _genres(connection, [user_id])[user_id],
    )


def _genres(connection: Connection, user_ids: Sequence[int]) -> dict[int, Genres]:
    found: dict[int, Genres] = {user_id: {} for user_id in user_ids}
    for row in connection.execute(text(GENRES), {"user_ids": list(user_ids)}):
        found[row.user_id][row.genre] = row.n
    return found
