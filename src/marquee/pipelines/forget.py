"""
Forget: take erased users out of what was stored as files before they were erased, and finish what deleting
their rows has left: an erasure may have been interrupted, and rows behind answers may have come since.

Input files are rewritten without them. Archives of data sets, snapshots and batch predictions are what their
digest says and stay so: those that name an erased user go when they are older than
`MARQUEE_BACKUP__RAW_DAYS`, the newest ones being needed to explain the model that serves. Those that name
none stay.

What has been looked through for whom is remembered beside the files, so that a file is read again only for
who was erased since.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import select

from marquee.errors import DamagedObjectError, NotFoundError, StoreError, StoreUnavailableError
from marquee.ingest.redact import rewrite
from marquee.pipelines.made_files import is_manifest, made_files, named_in, remove_files
from marquee.pipelines.raw_files import raw_files
from marquee.pipelines.retention import let_go
from marquee.pipelines.run import RunContext
from marquee.store.backups import Vault
from marquee.store.repositories import erasures, outbox
from marquee.store.tables import users
from marquee.telemetry import get_logger

__all__ = ["forget"]

MEMORY: Final = "looked-through"
MAX_MEMORY_BYTES: Final = 1 << 30
SNAPSHOTS: Final = ("snapshots/interactions", "features/users", "features/user_genres", "predictions")


def forget(context: RunContext) -> dict[str, Any]:
    """
    Delete rows of erased users, and rewrite or remove the files that hold some; twice changes nothing.

    Where there is no archive, and so no nightly backup after which that would be done, let go what is old.
    """
    walk = _Walk(context)
    while erased := walk.not_looked_for():  # who is erased meanwhile is not forgotten
        walk.look_for(erased)
    old = let_go(context) if context.objects.remote is None else {}
    return {
        "users": len(walk.users),
        "deleted": walk.deleted,
        "read": walk.read,
        "rewritten": walk.rewritten,
        "expired": walk.expired,
        "waiting": len(walk.memory.named),
        "damaged": walk.damaged,
        **old,
    }


@dataclass
class _Memory:
    """
    What was looked through, and for whom.

    Attributes:
        looked_for: hashes of users; in files named here their rows are no more, or the file is in `named`.
        others: files that name other users.
        nobody: files that name no users, whoever is erased.
        named: files that cannot be rewritten and name an erased user: they go when they are old.
    """

    looked_for: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    nobody: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, vault: Vault) -> Self:
        """The memory of the last run; an empty one where there is none that can be read."""
        for item in sorted(vault.remote.list(MEMORY), key=lambda item: item.key, reverse=True):
            try:
                content = vault.remote.get_bytes(item.key, MAX_MEMORY_BYTES)
                if item.key.endswith(f"-{_digest(content)}.json"):
                    return cls(**{name: set(keys) for name, keys in json.loads(content).items()})
            except StoreUnavailableError:
                raise
            except StoreError as error:
                get_logger().warning("forget.memory_not_read", error=error.message)
        return cls()

    def write(self, vault: Vault) -> None:
        """Keep it for the next run, in place of the one before."""
        values = {name: sorted(getattr(self, name)) for name in ("looked_for", "others", "nobody", "named")}
        content = json.dumps(values).encode()
        key = f"{MEMORY}/{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{_digest(content)}.json"
        vault.remote.put_named(key, content)
        vault.remote.delete(*(item.key for item in vault.remote.list(MEMORY) if item.key < key))

    def drop(self, keys: Iterable[str]) -> None:
        """Files are gone."""
        for known in (self.others, self.nobody, self.named):
            known.difference_update(keys)


class _Walk:
    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._vault = Vault(context.objects)
        self._started = False
        self.users: dict[int, str] = {}
        self.deleted = self.read = self.rewritten = self.expired = self.damaged = 0

    @cached_property
    def memory(self) -> _Memory:
        """Read when the rows are gone: the archive, which is asked for it, may be away."""
        return _Memory.read(self._vault)

    def not_looked_for(self) -> dict[int, str] | None:
        """Erased users, by now without rows, with their hashes, if there are new ones; at first, all."""
        secrets = self._context.settings.paths.secrets
        with self._context.database.begin() as connection:
            erased = connection.scalars(select(users.c.user_id).where(users.c.erased_at.is_not(None))).all()
            found = erasures.hashes_of(connection, erased, secrets) if erased else {}
        if self._started and found.keys() == self.users.keys():
            return None
        self._started = True
        self.users = found
        if not found:
            return None
        self._context.progress("delete rows")
        with self._context.database.begin() as connection:
            self.deleted += sum(erasures.delete_rows(connection, *found).values())
        return found

    def look_for(self, erased: dict[int, str]) -> None:
        new = {user: name for user, name in erased.items() if name not in self.memory.looked_for}
        self._note(new)
        files = self._files()
        self.memory.drop({*self.memory.others, *self.memory.nobody, *self.memory.named} - files.keys())
        with tempfile.TemporaryDirectory(prefix="marquee-forget-") as folder:
            for number, (key, came_in) in enumerate(sorted(files.items())):
                self._context.progress("look through files", number, len(files))
                if key in self.memory.nobody or key in self.memory.named:
                    continue
                wanted = new if key in self.memory.others else erased
                if wanted:
                    self._look_through(key, came_in, wanted, Path(folder))
        self._expire(files)
        self.memory.looked_for = set(erased.values())
        self.memory.write(self._vault)

    def _files(self) -> dict[str, datetime]:
        """Files that may name users → since when there are they."""
        raw = {file.key: file.came_in for file in raw_files(self._context.objects, ask=False)}
        return raw | made_files(self._vault, *SNAPSHOTS)

    def _look_through(self, key: str, came_in: datetime, erased: dict[int, str], folder: Path) -> None:
        self.read += 1
        clean = folder / "clean"
        ending = key.rpartition("/")[2][64:]
        try:
            with self._vault.fetched(key, folder) as path:
                found = rewrite(path, clean, ending, erased)
        except (DamagedObjectError, NotFoundError) as error:
            self.damaged += 1
            get_logger().error("forget.file_not_read", key=key, error=error.message)
            return
        if found == "rewritten" and key.startswith(SNAPSHOTS):
            found = "named"
        if found == "rewritten":
            self._replace(key, clean, came_in)
        else:
            {"nobody": self.memory.nobody, "named": self.memory.named}.get(found, self.memory.others).add(key)
            if found == "named":
                self.memory.others.discard(key)

    def _replace(self, key: str, clean: Path, came_in: datetime) -> None:
        """
        Put a file in the place of another.

        The new one first: a process that dies between the two leaves both, and the next run does it again.
        """
        context = self._context
        folder, _, name = key.rpartition("/")
        made = self._vault.remote.made_at(key)
        stored = context.objects.put(folder, clean, name[64:], made_at=min(came_in, made or came_in))
        with context.database.begin() as connection:
            outbox.add(connection, [stored.key])
        self._remove(key)
        self.memory.others.add(stored.key)
        self.rewritten += 1

    def _expire(self, files: dict[str, datetime]) -> None:
        due = datetime.now(UTC) - timedelta(days=self._context.settings.backup.raw_days)
        gone = [key for key in sorted(self.memory.named) if files[key] < due]
        for key in [*self._manifests(key for key in gone if key.startswith(SNAPSHOTS)), *gone]:
            self._remove(key)
        self.memory.drop(gone)
        self.expired += len(gone)

    def _manifests(self, snapshots: Iterable[str]) -> list[str]:
        """The manifests of snapshots of data or features that are no more."""
        gone = set(snapshots)
        if not gone:
            return []
        manifests = sorted(filter(is_manifest, made_files(self._vault, "snapshots", "features")))
        return [key for key in manifests if not gone.isdisjoint(named_in(self._vault, key))]

    def _note(self, erased: dict[int, str]) -> None:
        """Keep beside the backups who must be taken out of those of before."""
        context = self._context
        for user_id in sorted(erased):
            with context.database.begin() as connection:
                content = erasures.note(connection, user_id, context.settings.paths.secrets)
                outbox.add(connection, [context.objects.put("erasures", content, ".txt").key])

    def _remove(self, key: str) -> None:
        remove_files(self._context.database, self._vault, key)
        self.memory.drop([key])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
