"""Rehearsal: the newest backup, restored beside what serves, where it may fail without harm."""

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, func, select

from marquee.config import DatabaseSettings
from marquee.errors import DamagedObjectError
from marquee.pipelines.infer import recommend_all
from marquee.pipelines.recovery import recover
from marquee.pipelines.run import RunContext
from marquee.store.postgres import Database
from marquee.store.tables import metadata

__all__ = ["rehearse"]

LISTED: Final = 10


def rehearse(context: RunContext) -> dict[str, Any]:
    """
    Restore the newest backup into an embedded server of its own, count its rows, compute everyone's lists.

    The objects are those of the deployment: what its bundles lack in the object directory is fetched into it,
    as serving would do; nothing else is changed. The server and its folder are removed again.

    Returns:
        `backup`, its age, `rows`, `erased`, `users` with lists, and what the restore took.

    Raises:
        NotFoundError: there is no backup.
        DamagedObjectError: something that it needs is damaged, or rows are missing.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="marquee-drill-") as folder:
        changed = {"home": Path(folder) / "home", "database": DatabaseSettings()}
        scratch = context.settings.model_copy(update=changed)
        with Database.open(scratch, prepare=False) as database:
            # With the deployment's own secrets: they tell who is erased.
            done = recover(context.settings, database, context.objects, told=context.progress)
            seconds = time.monotonic() - began
            with database.begin() as connection:
                found = {name: _rows(connection, name) for name in done.rows}
            # Restoring takes out whoever was erased since; nothing else may be missing.
            missing = {name: rows - found[name] for name, rows in done.rows.items() if found[name] < rows}
            if missing and not done.erased:
                raise DamagedObjectError(
                    f"The backup {done.backup} was restored without {missing}.", fix="Make a full backup."
                )
            champion, user_ids, _ = recommend_all(scratch, database, context.objects, LISTED)
    return {
        "backup": done.backup,
        "age_seconds": round((datetime.now(UTC) - done.snapshot_at).total_seconds()),
        "rows": sum(found.values()),
        "erased": done.erased,
        "users": len(user_ids),
        "champion": champion,
        "restore_seconds": round(seconds, 3),
    }


def _rows(connection: Connection, table: str) -> int:
    return int(connection.scalar(select(func.count()).select_from(metadata.tables[table])) or 0)
