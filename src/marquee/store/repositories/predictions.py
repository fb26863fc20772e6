"""Answers of the predictor, kept so that the newest can be shown."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray
from sqlalchemy import Connection, select

from marquee.store.tables import predictions

__all__ = ["NewPrediction", "latest_items"]

SCANNED_PREDICTIONS = 200
"""How far back distinct items are looked for."""


class NewPrediction(NamedTuple):
    """An answer of the predictor and what it was asked, for the journal; the fields are columns."""

    user_id: int
    item_id: int
    rating: float | None
    watch_seconds: float | None
    popularity: float | None
    item_ids: Sequence[int] | NDArray[Any]
    scores: Sequence[float] | NDArray[Any]
    bundle: str


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
