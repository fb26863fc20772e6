"""Looking after backups: proving that they are whole, and letting old ones go."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from marquee.errors import DamagedObjectError, NotFoundError, StoreError, StoreUnavailableError
from marquee.store.backups.manifest import Backup, name_moment
from marquee.store.backups.vault import Told, Vault
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.telemetry import get_logger

__all__ = ["Pruned", "Verdict", "kept", "prune", "verify"]

YOUNG: Final = timedelta(hours=1)
"""Objects without a manifest are left alone for so long: whoever wrote them may write it yet."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What a look at a backup found.

    Attributes:
        objects: how many it needs.
        size: bytes that were read.
        damaged: key → what is wrong.
    """

    backup: str
    objects: int
    size: int
    damaged: dict[str, str]

    @property
    def whole(self) -> bool:
        """Whether the backup can be restored."""
        return not self.damaged


@dataclass(frozen=True, slots=True)
class Pruned:
    """
    What was let go.

    Attributes:
        kept, removed: names of backups.
        objects, size: of the objects that no backup needs any more.
    """

    kept: Sequence[str]
    removed: Sequence[str]
    objects: int
    size: int


def verify(objects: ObjectStore, backup: Backup, *, told: Told | None = None) -> Verdict:
    """
    Read all that a backup needs and compare it with its digests and row counts.

    Raises:
        StoreUnavailableError: the archive cannot be reached: nothing is known.
    """
    vault = Vault(objects)
    rows = {piece.key: piece.rows for table in backup.tables.values() for piece in table.pieces}
    needed = [*rows, *backup.objects]
    damaged: dict[str, str] = {}
    size = 0
    with tempfile.TemporaryDirectory(prefix="marquee-verify-") as folder:
        for done, key in enumerate(needed, start=1):
            try:
                with vault.fetched(key, Path(folder), here_first=False) as path:
                    size += path.stat().st_size
                    if key in rows and (found := pq.read_metadata(path).num_rows) != rows[key]:
                        damaged[key] = f"It has {found} rows instead of {rows[key]}."
            except StoreUnavailableError:
                raise
            except (StoreError, NotFoundError) as error:
                damaged[key] = error.message
            except pa.ArrowInvalid as error:
                damaged[key] = f"It cannot be read: {error}."
            if told is not None:
                told("verify", done, len(needed))
    for key, reason in damaged.items():
        get_logger().error("backup.object_damaged", backup=backup.name, key=key, reason=reason)
    return Verdict(backup.name, len(needed), size, damaged)


def kept(moments: Iterable[datetime], *, daily: int, weekly: int) -> set[datetime]:
    """The newest moment of each of the newest days and weeks that have any; the newest of all always."""
    newest_first = sorted(moments, reverse=True)
    days: dict[object, datetime] = {}
    weeks: dict[object, datetime] = {}
    for moment in newest_first:
        days.setdefault(moment.date(), moment)
        weeks.setdefault(moment.isocalendar()[:2], moment)
    return {*newest_first[:1], *list(days.values())[:daily], *list(weeks.values())[:weekly]}


def prune(
    database: Database,
    objects: ObjectStore,
    *,
    daily: int,
    weekly: int,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Pruned:
    """
    Let old backups go, and the objects of tables that no other backup needs.

    Args:
        daily: of so many days the newest backup stays.
        weekly: of so many weeks too.
        dry_run: only say what would be done.

    Raises:
        StoreError: a manifest that stays cannot be read, so that what it needs is not known; nothing is done.
    """
    vault = Vault(objects)
    with vault.alone(database):
        moments = {key: moment for key in vault.manifests() if (moment := name_moment(key)) is not None}
        stay = kept(moments.values(), daily=daily, weekly=weekly)
        going = [key for key, moment in moments.items() if moment not in stay]
        staying = [_read(vault, key) for key, moment in moments.items() if moment in stay]
        needed = {
            piece.key for backup in staying for table in backup.tables.values() for piece in table.pieces
        }
        before = (now or datetime.now(UTC)) - YOUNG
        loose = [
            item for item in vault.remote.list("tables") if item.key not in needed and item.modified < before
        ]
        if not dry_run:
            vault.remote.delete(*going)  # first: a backup whose objects are gone must not be seen
            vault.remote.delete(*(item.key for item in loose))
    get_logger().info("backup.pruned", kept=len(staying), removed=len(going), objects=len(loose))
    return Pruned(
        [backup.name for backup in staying],
        [key.rpartition("/")[2].removesuffix(".json") for key in going],
        len(loose),
        sum(item.size for item in loose),
    )


def _read(vault: Vault, key: str) -> Backup:
    """A manifest that stays; it takes a person to say that a damaged one may go."""
    try:
        return vault.read(key)
    except DamagedObjectError as error:
        raise DamagedObjectError(
            f"Nothing is pruned: {error.message[0].lower()}{error.message[1:]}",
            fix=f"Delete {key} in {vault.remote.url}: nobody can restore it.",
        ) from error
