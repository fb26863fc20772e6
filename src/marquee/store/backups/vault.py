"""Where backups are: the archive, or without one the object directory."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from marquee.config import ObjectSettings
from marquee.errors import DamagedObjectError, NotFoundError, StoreError, StoreUnavailableError
from marquee.store.backups.manifest import FOLDER, Backup, name_moment
from marquee.store.disk import sha256_of
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.remote import RemoteStore

__all__ = ["Told", "Vault"]

LOCK: Final = 0x4261636B  # "Back"; any number that nobody else locks
MAX_MANIFEST_BYTES: Final = 256 << 20
STAGING: Final = ".backup-"

Told = Callable[[str, int, int | None], None]
"""`told(step, done, total)`, as pipelines report."""


class Vault:
    """
    The backups of a deployment.

    Attributes:
        remote: what they are kept in.
        is_remote: whether that is another place than the object directory.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects
        self.is_remote = objects.remote is not None
        here = ObjectSettings(url=f"file://{quote(str(objects.root))}")
        self.remote = objects.remote or RemoteStore(here)

    def manifests(self) -> list[str]:
        """The manifests, oldest first."""
        found = (item.key for item in self.remote.list(FOLDER))
        return sorted(key for key in found if name_moment(key) is not None)

    def read(self, key: str) -> Backup:
        """
        A backup by the key of its manifest.

        Raises:
            NotFoundError: there is none.
            DamagedObjectError: it is not what was stored.
        """
        return Backup.decode(key, self.remote.get_bytes(key, MAX_MANIFEST_BYTES))

    def find(self, name: str | None = None) -> Backup:
        """
        A backup by its name or the beginning of it; default: the newest.

        Raises:
            NotFoundError: there is none, or more than one begins so.
        """
        keys = self.manifests()
        if name is not None:
            keys = [key for key in keys if key.startswith(f"{FOLDER}/{name.removesuffix('.json')}")]
        if not keys or (name is not None and len(keys) > 1):
            which = "no backup" if name is None else f"not exactly one backup {name!r}"
            raise NotFoundError(f"There is {which} in {self.remote.url}.", fix="Run: marquee backup list")
        return self.read(keys[-1])

    def newest(self) -> Backup | None:
        """The newest backup that can be read, if there is one."""
        for key in reversed(self.manifests()):
            try:
                return self.read(key)
            except StoreUnavailableError:
                raise
            except StoreError:
                continue  # `verify` names it; the next backup is then a full one, or builds on an older one
        return None

    def store(self, key: str, path: Path, sha256: str) -> None:
        """Store a file under its content-hashed key."""
        self.remote.upload(key, path, sha256)

    def ensure(self, key: str) -> bool:
        """Whether an object is there; one that is only in the object directory is brought there."""
        if self.remote.exists(key):
            return True
        path = self.objects.root / key
        if not self.is_remote or not path.is_file():
            return False
        self.remote.upload(key, path, path.name[:64])
        return True

    @contextmanager
    def fetched(self, key: str, folder: Path, *, here_first: bool = True) -> Iterator[Path]:
        """
        The file of an object, verified; gone afterwards where it had to be fetched.

        Args:
            folder: for what is fetched.
            here_first: whether a copy in the object directory will do.

        Raises:
            NotFoundError: there is no such object.
            DamagedObjectError: its content is not what was stored.
        """
        expected = key.rpartition("/")[2][:64]
        here = self.objects.root / key
        if here.is_file() and (here_first or not self.is_remote):
            found = sha256_of(here)
            if found != expected:
                raise DamagedObjectError(
                    f"The object {key} in {self.objects.root} is damaged: it has the SHA-256 {found}.",
                    fix="Delete it where the archive has it, or restore another backup.",
                )
            yield here
            return
        path = folder / expected
        self.remote.download(key, path, expected)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder for files on their way; a killed process leaves its own to the next."""
        for left in self.objects.root.glob(f"{STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)
        with (
            self.objects.writing(),
            tempfile.TemporaryDirectory(prefix=STAGING, dir=self.objects.root) as folder,
        ):
            yield Path(folder)

    @contextmanager
    def alone(self, database: Database) -> Iterator[None]:
        """
        Keep others from writing or pruning backups.

        Raises:
            StoreError: another process does.
        """
        with database.locked(LOCK) as alone:
            if not alone:
                raise StoreError("Another process writes or prunes backups.", fix="Wait for it.")
            yield
