"""
What monitoring keeps: sums of days, up to where rows are in them, results, and alarms of drift.

Everything here is sums over many people; who did what is nowhere in it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import orjson
from sqlalchemy import Connection, delete, extract, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from marquee.store.notify import notify
from marquee.store.tables import drift_alarms, monitor_days, monitor_marks, monitor_results

__all__ = [
    "CHANNEL",
    "Alarm",
    "Counts",
    "Days",
    "DriftKind",
    "Result",
    "add",
    "alarms",
    "append",
    "clear",
    "days",
    "forget",
    "history",
    "hold",
    "marks",
    "newest",
    "put",
    "raise_alarm",
    "resolve",
    "set_marks",
    "set_run",
    "trend",
]

DriftKind = Literal["taste", "new_releases", "popularity", "feed", "scores", "skew"]
Counts = Mapping[str, float]
Days = dict[tuple[datetime, str], Counts]
"""(beginning of the day, name) → key → sum."""

CHANNEL: Final = "marquee_drift"
LOCK: Final = 0x4D6F6E69

_DAYS: Final = text(
    "SELECT at, name, CAST(counts AS text) AS counts FROM monitor_days "
    "WHERE at >= :since AND at < :until ORDER BY at, name"
)
_HELD: Final = text(
    "SELECT at, name, CAST(counts AS text) AS counts FROM monitor_days AS d "
    "JOIN unnest(CAST(:moments AS timestamptz[]), CAST(:names AS text[])) AS w (at, name) USING (at, name)"
)


@dataclass(frozen=True, slots=True)
class Result:
    """
    What a run of monitoring measured.

    Attributes:
        seconds: how long it took.
        values: as JSON; see `marquee.monitoring.quality` and `marquee.monitoring.signals`.
    """

    measured_at: datetime
    seconds: float
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Alarm:
    """
    Drift that was found.

    Attributes:
        resolved_at: None while it lasts.
        evidence: the windows and figures that raised it.
        run_id: the retraining that it queued, None where it has not.
    """

    alarm_id: int
    kind: DriftKind
    raised_at: datetime
    resolved_at: datetime | None
    evidence: dict[str, Any]
    run_id: UUID | None


def hold(connection: Connection) -> None:
    """One at a time adds up and raises alarms; the next waits for the end of this transaction."""
    connection.execute(select(func.pg_advisory_xact_lock(LOCK)))


def marks(connection: Connection) -> dict[str, Any]:
    """Up to where rows are in the sums, by name."""
    return {row.name: row.value for row in connection.execute(select(monitor_marks))}


def set_marks(connection: Connection, values: Mapping[str, Any]) -> None:
    """Say up to where rows are in the sums, in the transaction that added them."""
    statement = upsert(monitor_marks)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"value": statement.excluded.value}),
        [{"name": name, "value": value} for name, value in values.items()],
    )


def add(connection: Connection, sums: Mapping[tuple[datetime, str], Counts]) -> None:
    """Add to the sums of days."""
    wanted = {"moments": [at for at, _ in sums], "names": [name for _, name in sums]}
    made = {key: dict(counts) for key, counts in sums.items()}
    for row in connection.execute(_HELD, wanted):
        into = made[row.at, row.name]
        for key, count in orjson.loads(row.counts).items():
            into[key] = into.get(key, 0) + count
    put(connection, made)


def put(connection: Connection, sums: Mapping[tuple[datetime, str], Counts]) -> None:
    """Write the sums of days in place of what they were."""
    if not sums:
        return
    statement = upsert(monitor_days)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["at", "name"], set_={"counts": statement.excluded.counts}
        ),
        [{"at": at, "name": name, "counts": dict(counts)} for (at, name), counts in sums.items()],
    )


def days(connection: Connection, since: datetime, until: datetime) -> Days:
    """The sums of the days that begin in a time, oldest first."""
    found = connection.execute(_DAYS, {"since": since, "until": until})
    return {(row.at, row.name): orjson.loads(row.counts) for row in found}


def forget(connection: Connection, before: datetime) -> None:
    """Let go of the sums of older days."""
    connection.execute(delete(monitor_days).where(monitor_days.c.at < before))


def clear(connection: Connection) -> None:
    """Let go of all sums: they are to be made anew."""
    connection.execute(delete(monitor_days))
    connection.execute(delete(monitor_marks))


def append(
    connection: Connection,
    measured_at: datetime,
    seconds: float,
    values: Mapping[str, Any],
    *,
    keep: timedelta,
) -> None:
    """
    Keep a result.

    Args:
        keep: older ones go.
    """
    row = {"measured_at": measured_at, "seconds": seconds, "values": dict(values)}
    connection.execute(insert(monitor_results).values(row))
    connection.execute(delete(monitor_results).where(monitor_results.c.measured_at < measured_at - keep))


def newest(connection: Connection) -> Result | None:
    """What was measured last."""
    order = (monitor_results.c.measured_at.desc(), monitor_results.c.result_id.desc())
    row = connection.execute(_results().order_by(*order).limit(1)).one_or_none()
    return None if row is None else Result(**row._mapping)


def history(connection: Connection, since: datetime) -> list[Result]:
    """What was measured since a moment, oldest first."""
    query = _results().where(monitor_results.c.measured_at >= since)
    query = query.order_by(monitor_results.c.measured_at, monitor_results.c.result_id)
    return [Result(**row._mapping) for row in connection.execute(query)]


def trend(connection: Connection, since: datetime, *, every: timedelta) -> list[Result]:
    """The last result of each span of time since a moment, oldest first."""
    at = monitor_results.c.measured_at
    span = func.floor(extract("epoch", at) / every.total_seconds())
    last = select(func.max(monitor_results.c.result_id)).where(at >= since).group_by(span)
    query = _results().where(monitor_results.c.result_id.in_(last))
    query = query.order_by(at, monitor_results.c.result_id)
    return [Result(**row._mapping) for row in connection.execute(query)]


def alarms(connection: Connection, *, open_only: bool = False, limit: int = 100) -> list[Alarm]:
    """Alarms, newest first."""
    query = select(drift_alarms).order_by(drift_alarms.c.raised_at.desc(), drift_alarms.c.alarm_id.desc())
    if open_only:
        query = query.where(drift_alarms.c.resolved_at.is_(None))
    return [Alarm(**row._mapping) for row in connection.execute(query.limit(limit))]


def raise_alarm(
    connection: Connection, kind: DriftKind, raised_at: datetime, evidence: Mapping[str, Any]
) -> Alarm:
    """Say that there is drift of a kind, of which no alarm is open."""
    row = {"kind": kind, "raised_at": raised_at, "evidence": dict(evidence)}
    made = connection.execute(insert(drift_alarms).values(row).returning(*drift_alarms.c)).one()
    notify(connection, CHANNEL, kind)
    return Alarm(**made._mapping)


def resolve(connection: Connection, alarm: Alarm, resolved_at: datetime, evidence: Mapping[str, Any]) -> None:
    """Say that it is over."""
    _update(connection, alarm.alarm_id, resolved_at=resolved_at, evidence=dict(evidence))
    notify(connection, CHANNEL, alarm.kind)


def set_run(connection: Connection, alarm_id: int, run_id: UUID) -> None:
    """Say which retraining an alarm has queued."""
    _update(connection, alarm_id, run_id=run_id)


def _update(connection: Connection, alarm_id: int, **values: Any) -> None:
    connection.execute(update(drift_alarms).where(drift_alarms.c.alarm_id == alarm_id).values(**values))


def _results() -> Any:
    columns: Iterable[Any] = (monitor_results.c[name] for name in ("measured_at", "seconds", "values"))
    return select(*columns)
