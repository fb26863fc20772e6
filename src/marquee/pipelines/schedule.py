"""What a worker queues by itself: backups when one is due, and the rest of an erasure."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from marquee.config import Settings
from marquee.errors import ConflictError, StoreError
from marquee.jobs import Queue
from marquee.store.postgres import Database
from marquee.store.repositories import runs
from marquee.store.repositories.runs import Run
from marquee.store.tables import users
from marquee.telemetry import get_logger
from marquee.telemetry.metrics import BACKUP_AGE_SECONDS, BACKUP_BYTES

__all__ = ["look", "schedule"]

LOOK_SECONDS: Final = 30.0
TRY_AGAIN: Final = timedelta(hours=1)
"""After a run that failed."""
RUNS: Final = 100
"""How far back the newest good run is looked for."""


async def schedule(settings: Settings, database: Database) -> None:
    """Queue what is due, and measure the newest backup; until cancelled."""
    while True:
        try:
            await database.run(look, settings)
        except StoreError as error:
            get_logger().warning("schedule.not_looked_after", error=str(error))
        await asyncio.sleep(LOOK_SECONDS)


def look(connection: Connection, settings: Settings) -> None:
    """Queue what is due now."""
    _backup(connection, settings)
    _forget(connection)


def _backup(connection: Connection, settings: Settings) -> None:
    now = datetime.now(UTC)
    recent = runs.recent(connection, limit=RUNS, pipeline="backup")
    good = _good(recent)
    if good is not None and "snapshot_at" in good.counts:
        taken = datetime.fromisoformat(good.counts["snapshot_at"])
        BACKUP_AGE_SECONDS.set((now - taken).total_seconds())
        BACKUP_BYTES.set(good.counts["bytes"])
    every = timedelta(hours=settings.backup.every_hours)
    if settings.objects.url is None or not every:
        return
    if good is None or now - good.created_at >= every:
        _submit(connection, "backup", recent, min(every, TRY_AGAIN))


def _forget(connection: Connection) -> None:
    """Whoever was erased while the last run of it was at its end."""
    newest = connection.scalar(select(func.max(users.c.erased_at)))
    if newest is None:
        return
    recent = runs.recent(connection, limit=RUNS, pipeline="forget")
    good = _good(recent)
    if good is None or good.started_at is None or newest >= good.started_at:
        _submit(connection, "forget", recent, TRY_AGAIN)


def _good(recent: list[Run]) -> Run | None:
    return next((run for run in recent if run.status == "succeeded"), None)


def _submit(connection: Connection, pipeline: str, recent: list[Run], pause: timedelta) -> None:
    failed = bool(recent) and recent[0].status != "succeeded"
    if failed and datetime.now(UTC) - recent[0].created_at < pause:
        return
    with suppress(ConflictError):  # one is under way
        Queue().submit(connection, pipeline)
