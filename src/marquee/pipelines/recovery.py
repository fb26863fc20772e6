"""Recovery: a backup into an empty database, and what came in as files since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from marquee.config import Settings
from marquee.errors import DamagedObjectError, NotFoundError, StoreError
from marquee.pipelines.replay import NOT_IN_FILES, replay
from marquee.store.backups import Backup, Vault, restore, verify
from marquee.store.backups.manifest import name_moment
from marquee.store.backups.vault import Told
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import erasures
from marquee.telemetry import get_logger

__all__ = ["Recovery", "recover"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """
    What was brought back.

    Attributes:
        snapshot_at: the moment whose state the backup holds.
        rows: per table.
        erased: users who were taken out again, since they had been erased after the backup.
        erasures_from: address of the database that was asked who was erased; None: none answered.
        bundles: of the slots, fetched.
        replayed: raw files that came in after the backup, loaded again → new rows.
        skipped: raw files that were not → why.
        not_replayed: what came in meanwhile and is in no file.
    """

    backup: str
    snapshot_at: datetime
    rows: Mapping[str, int]
    erased: int = 0
    erasures_from: str | None = None
    bundles: Sequence[str] = ()
    replayed: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    not_replayed: str | None = None


def recover(
    settings: Settings,
    database: Database | None,
    objects: ObjectStore,
    name: str | None = None,
    *,
    until: datetime | None = None,
    erasures_from: str | None = None,
    tables: Sequence[str] = (),
    dry_run: bool = False,
    told: Told | None = None,
) -> Recovery:
    """
    Restore a backup.

    Args:
        database: not prepared, without rows; None for a dry run.
        name: of the backup or its beginning; default: the newest.
        until: the raw files that came in from the backup until this moment, too; without a name the backup
            is then the newest of before.
        erasures_from: URL of a database that knows who was erased; default: the one of the settings, if it
            is another than this one and answers.
        dry_run: verify all that would be needed and change nothing.

    Raises:
        NotFoundError: there is no such backup.
        DamagedObjectError: something that it needs is damaged; it is named and nothing has been changed.
        StoreError: the database holds rows.
        ValueError: the backup named is of after that time, or there is no such table.
    """
    vault = Vault(objects)
    backup = _before(vault, until) if until is not None and name is None else vault.find(name)
    if until is not None and backup.created_at > until:
        raise ValueError(
            f"The backup {backup.name} is of after {until:%Y-%m-%d %H:%M:%S} UTC; name an older one, or none."
        )
    if dry_run or database is None:
        rows = {table: found.rows for table, found in backup.only(tables).items()}
        verdict = verify(objects, backup, told=told)
        for key, reason in verdict.damaged.items():
            raise DamagedObjectError(f"{key}: {reason}", fix="Restore another backup.")
        return Recovery(backup.name, backup.created_at, rows)
    address, erased = _erased_elsewhere(settings, database, erasures_from)
    done = restore(
        database,
        objects,
        backup,
        secrets=settings.paths.secrets,
        tables=tables,
        erased=erased,
        told=told,
    )
    found: dict[str, Any] = {"erased": done.erased, "erasures_from": address, "bundles": done.bundles}
    if until is None:
        return Recovery(backup.name, backup.created_at, done.rows, **found)
    replayed, skipped = replay(settings, database, objects, backup.created_at, until, told)
    return Recovery(
        backup.name,
        backup.created_at,
        done.rows,
        **found,
        replayed=replayed,
        skipped=skipped,
        not_replayed=NOT_IN_FILES,
    )


def _erased_elsewhere(
    settings: Settings, target: Database, url: str | None
) -> tuple[str | None, list[bytes]]:
    """Whom a database that lives has erased; of the last minutes no backup and no note knows yet."""
    configured = settings.database.url
    if url is not None:
        settings = settings.model_copy(update={"database": settings.database.at(url)})
    elif configured is not None:
        if configured.get_secret_value() == target.url:
            return None, []  # what is restored into is the database of the settings itself
    elif not settings.paths.postgres.is_dir() or _is_embedded_in(target, settings.paths.postgres):
        return None, []  # or there is no such database
    try:
        with Database.open(settings, prepare=False) as database, database.begin() as connection:
            return database.address, erasures.known(connection)
    except StoreError as error:
        if url is not None:
            raise
        get_logger().warning("restore.erasures_not_asked", error=error.message)
        return None, []


def _is_embedded_in(database: Database, folder: Path) -> bool:
    return database.server is not None and database.server.folder == folder


def _before(vault: Vault, until: datetime) -> Backup:
    keys = [key for key in vault.manifests() if (moment := name_moment(key)) is not None and moment <= until]
    if not keys:
        raise NotFoundError(
            f"There is no backup of before {until:%Y-%m-%d %H:%M:%S} UTC.", fix="Run: marquee backup list"
        )
    return vault.read(keys[-1])
