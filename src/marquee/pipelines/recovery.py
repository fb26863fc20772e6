"""Recovery: a backup into an empty database, and what came in as files since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from marquee.config import Settings
from marquee.errors import DamagedObjectError, NotFoundError
from marquee.pipelines.replay import replay
from marquee.store.backups import Backup, Vault, restore, verify
from marquee.store.backups.manifest import name_moment
from marquee.store.backups.vault import Told
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database

__all__ = ["Recovery", "recover"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """
    What was brought back.

    Attributes:
        snapshot_at: the moment whose state the backup holds.
        rows: per table.
        erased: users who were taken out again, since they had been erased after the backup.
        bundles: of the slots, fetched.
        replayed: raw files that came in after the backup, loaded again → new rows.
        skipped: those that hold nothing which can be loaded again.
    """

    backup: str
    snapshot_at: datetime
    rows: Mapping[str, int]
    erased: int = 0
    bundles: Sequence[str] = ()
    replayed: Mapping[str, int] = field(default_factory=dict)
    skipped: Sequence[str] = ()


def recover(
    settings: Settings,
    database: Database | None,
    objects: ObjectStore,
    name: str | None = None,
    *,
    until: datetime | None = None,
    tables: Sequence[str] = (),
    dry_run: bool = False,
    told: Told | None = None,
) -> Recovery:
    """
    Restore a backup.

    Args:
        database: not prepared, without rows; None for a dry run.
        name: of the backup or its beginning; default: the newest.
        until: the newest backup of before, and the raw files that came in from then until this moment.
        dry_run: verify all that would be needed and change nothing.

    Raises:
        NotFoundError: there is no such backup.
        DamagedObjectError: something that it needs is damaged; it is named and nothing has been changed.
        StoreError: the database holds rows.
        ValueError: a name and a time, or no such table.
    """
    vault = Vault(objects)
    backup = _before(vault, until) if until is not None and name is None else vault.find(name)
    if dry_run or database is None:
        verdict = verify(objects, backup, told=told)
        for key, reason in verdict.damaged.items():
            raise DamagedObjectError(f"{key}: {reason}", fix="Restore another backup.")
        rows = {table: found.rows for table, found in backup.tables.items() if not tables or table in tables}
        return Recovery(backup.name, backup.created_at, rows)
    done = restore(database, objects, backup, secrets=settings.paths.secrets, tables=tables, told=told)
    replayed: dict[str, Any] = {}
    skipped: list[str] = []
    if until is not None:
        replayed, skipped = replay(database, objects, vault, backup.created_at, until, told)
    return Recovery(backup.name, backup.created_at, done.rows, done.erased, done.bundles, replayed, skipped)


def _before(vault: Vault, until: datetime) -> Backup:
    keys = [key for key in vault.manifests() if (moment := name_moment(key)) is not None and moment <= until]
    if not keys:
        raise NotFoundError(
            f"There is no backup of before {until:%Y-%m-%d %H:%M:%S} UTC.", fix="Run: marquee backup list"
        )
    return vault.read(keys[-1])
