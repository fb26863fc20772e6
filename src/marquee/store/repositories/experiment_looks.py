"""What experiments had shown at each look, evenly thinned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, insert, select, text

from marquee.store.tables import experiment_looks

__all__ = ["MAX_LOOKS", "Look", "append", "history"]

MAX_LOOKS: Final = 500
"""Looks that are kept of an experiment."""

# The one that leaves the smallest hole, neither the first nor the newest: the others stay evenly spaced.
_THIN: Final = text(
    """
    DELETE FROM experiment_looks WHERE look_id IN (
        SELECT look_id FROM (
            SELECT look_id, count(*) OVER () AS looks,
                lead(measured_at) OVER moments - lag(measured_at) OVER moments AS hole
            FROM experiment_looks WHERE experiment_id = :experiment_id
            WINDOW moments AS (ORDER BY measured_at, look_id)
        ) AS each WHERE looks > :kept AND hole IS NOT NULL
        ORDER BY hole, look_id LIMIT 1
    )
    """
)


@dataclass(frozen=True, slots=True)
class Look:
    """
    One look.

    Attributes:
        comparisons: the arms but the first against the first, as JSON.
    """

    measured_at: datetime
    comparisons: list[dict[str, Any]]


def append(
    connection: Connection,
    experiment_id: int,
    measured_at: datetime,
    comparisons: Sequence[Mapping[str, Any]],
    *,
    kept: int = MAX_LOOKS,
) -> None:
    """
    Keep a look.

    Args:
        kept: how many stay; where there are more, one makes room.
    """
    connection.execute(
        insert(experiment_looks).values(
            experiment_id=experiment_id,
            measured_at=measured_at,
            comparisons=[dict(each) for each in comparisons],
        )
    )
    connection.execute(_THIN, {"experiment_id": experiment_id, "kept": kept})


def history(connection: Connection, experiment_id: int) -> list[Look]:
    """The looks at an experiment, oldest first."""
    query = (
        select(experiment_looks.c.measured_at, experiment_looks.c.comparisons)
        .where(experiment_looks.c.experiment_id == experiment_id)
        .order_by(experiment_looks.c.measured_at, experiment_looks.c.look_id)
    )
    return [Look(row.measured_at, row.comparisons) for row in connection.execute(query)]
