"""Answers of the predictor, kept so that the newest can be shown."""

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from marquee.store.tables import predictions

__all__ = ["append", "latest_items"]

SCANNED_PREDICTIONS = 200
"""How far back distinct items are looked for."""


def append(
    connection: Connection,
    *,
    user_id: int,
    item_id: int,
    rating: float | None,
    watch_seconds: float | None,
    popularity: float | None,
    item_ids: Sequence[int],
    scores: Sequence[float],
    bundle: str,
) -> int:
    """
    Keep one answer with its inputs.

    Returns:
        Its prediction id.
    """
    made: int = connection.execute(
        insert(predictions)
        .values(
            user_id=user_id,
            item_id=item_id,
            rating=rating,
            watch_seconds=watch_seconds,
            popularity=popularity,
            item_ids=list(item_ids),
            scores=list(scores),
            bundle=bundle,
        )
        .returning(predictions.c.prediction_id)
    ).scalar_one()
    return made


def latest_items(connection: Connection, k: int) -> list[int]:
    """At most k distinct items of the newest answers: newest answer first, best first within one."""
    query = (
        select(predictions.c.item_ids).order_by(predictions.c.prediction_id.desc()).limit(SCANNED_PREDICTIONS)
    )
    found: dict[int, None] = {}
    for (item_ids,) in connection.execute(query):
        found.update(dict.fromkeys(item_ids))
        if len(found) >= k:
            break
    return list(found)[:k]
