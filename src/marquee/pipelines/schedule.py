"""
What a worker queues by itself: backups and a look at the model when due, the rest of an erasure, and, where
there is no archive, the removal of what is old.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from marquee.config import Settings
from marquee.errors import ConflictError, StoreError
from marquee.jobs import Queue
from marquee.pipelines import PIPELINES
from marquee.store.postgres import Database
from marquee.store.repositories import runs
from marquee.store.repositories.runs import Run
from marquee.store.tables import users
from marquee.telemetry import get_logger
from marquee.telemetry.metrics import BACKUP_AGE_SECONDS, BACKUP_BYTES, SCHEDULE_INTERVAL

__all__ = ["look", "schedule"]

LOOK_SECONDS: Final = 30.0
TRY_AGAIN: Final = timedelta(hours=1)
"""After a run that failed."""
DAILY: Final = timedelta(days=1)
RUNS: Final = 100
"""How far back the newest good run is looked for."""


async def schedule(settings: Settings, database: Database, pipelines: Collection[str]) -> None:
    """
    Queue what is due, and measure the newest backup; until cancelled.

    Args:
        pipelines: those that this worker can run.
    """
    while True:
        try:
            await database.run(look, settings, pipelines)
        except StoreError as error:
            get_logger().warning("schedule.not_looked_after", error=str(error))
        await asyncio.sleep(LOOK_SECONDS)


def look(connection: Connection, settings: Settings, pipelines: Collection[str] = PIPELINES) -> None:
    """Queue what is due now."""
    _backup(connection, settings)
    if "forget" in pipelines:
        _forget(connection, settings)
    if "monitor" in pipelines:
        _monitor(connection, settings)


def _backup(connection: Connection, settings: Settings) -> None:
    now = datetime.now(UTC)
    recent = runs.recent(connection, limit=RUNS, pipeline="backup")
    good = _good(recent)
    if good is not None and "snapshot_at" in good.counts:
        taken = datetime.fromisoformat(good.counts["snapshot_at"])
        BACKUP_AGE_SECONDS.set((now - taken).total_seconds())
        BACKUP_BYTES.set(good.counts["bytes"])
    every = timedelta(hours=settings.backup.every_hours if settings.objects.url is not None else 0)
    SCHEDULE_INTERVAL.labels("backup").set(every.total_seconds())
    if not every:
        return
    if good is None or now - good.created_at >= every:
        _submit(connection, "backup", recent, min(every, TRY_AGAIN))


def _forget(connection: Connection, settings: Settings) -> None:
    """
    Once somebody was erased: soon, and then daily. Where there is no archive, daily from the second day on.

    What came in since may name the erased again, and what cannot be rewritten has to go some day, as has what
    is old, for which a backup cares elsewhere.
    """
    newest = connection.scalar(select(func.max(users.c.erased_at)))
    due = datetime.now(UTC) - DAILY
    if newest is None:
        first = None if settings.objects.url is not None else runs.first(connection)
        if first is None or first > due:
            return
    recent = runs.recent(connection, limit=RUNS, pipeline="forget")
    good = _good(recent)
    if good is None or good.started_at is None or good.started_at <= max(newest or due, due):
        _submit(connection, "forget", recent, TRY_AGAIN)


def _monitor(connection: Connection, settings: Settings) -> None:
    every = timedelta(minutes=settings.monitor.every_minutes)
    SCHEDULE_INTERVAL.labels("monitor").set(every.total_seconds())
    if not every:
        return
    recent = runs.recent(connection, limit=1, pipeline="monitor")
    if not recent or datetime.now(UTC) - recent[0].created_at >= every:
        _submit(connection, "monitor", recent, every)


def _good(recent: list[Run]) -> Run | None:
    return next((run for run in recent if run.status == "succeeded"), None)


def _submit(connection: Connection, pipeline: str, recent: list[Run], pause: timedelta) -> None:
    failed = bool(recent) and recent[0].status != "succeeded"
    if failed and datetime.now(UTC) - recent[0].created_at < pause:
        return
    with suppress(ConflictError):  # one is under way
        Queue().submit(connection, pipeline)
