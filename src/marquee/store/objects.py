"""
Content-hashed blobs in a directory: raw files, snapshots, bundles.

A key is `<prefix>/<sha256><suffix>`: the caller chooses the readable part, the content decides the rest.
So an object never changes, writing it twice is success, and reading it proves that it is whole.

Objects are written to the directory alone; the courier takes them to the archive. What is missing in the
directory is fetched from there.
"""

import fcntl
import hashlib
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Self

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from marquee.config import Settings
from marquee.errors import DamagedObjectError, NotFoundError, StoreError
from marquee.store.disk import sha256_of, sync
from marquee.store.remote import RemoteStore
from marquee.telemetry import get_logger

__all__ = ["ObjectRef", "ObjectStore"]

# ASCII words only: what is a key here is also a key of S3, a URL path and a file name everywhere.
_SEGMENT = re.compile(r"[A-Za-z0-9_=+@:,-][A-Za-z0-9._=+@:,-]*", re.ASCII)
_NAME = re.compile(r"(?P<sha256>[0-9a-f]{64})(?:[.][A-Za-z0-9._-]+)?", re.ASCII)
_UNFINISHED = re.compile(r".*#\d+")  # obstore's staging files


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """
    An object that is stored.

    Attributes:
        key: where, relative to the store.
        sha256: of the content, hexadecimal.
        size: in bytes.
    """

    key: str
    sha256: str
    size: int


class ObjectStore:
    """
    A directory of objects.

    Any number of processes and threads may use the same directory.

    Args:
        root: the directory; created when missing.
        remote: the archive, asked for what is missing here.
    """

    def __init__(self, root: Path, remote: RemoteStore | None = None) -> None:
        self.root = root.absolute()
        self.remote = remote
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The object directory {self.root} cannot be made: {error.strerror}.",
                fix="Set MARQUEE_HOME to a folder that you may write to.",
            ) from error
        self._store = obstore.store.LocalStore(self.root)
        self._durable: set[Path] = set()
        self._is_swept = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The object directory of a home, with the archive where one is configured."""
        return cls(settings.paths.objects, RemoteStore.open(settings.objects))

    def put(
        self, prefix: str, data: bytes | Path, suffix: str = "", *, made_at: datetime | None = None
    ) -> ObjectRef:
        """
        Store an object durably, whole or not at all.

        An equal object that is there already is success; a damaged one is replaced.

        Args:
            prefix: readable part of the key, for example `raw/tmdb/2026/11/22`.
            data: the content, or the file that holds it (mapped, not read into memory).
            suffix: the end of the key, for example `.json`.
            made_at: since when there is what it holds; default: now.

        Raises:
            ValueError: the key would leave the store or use characters other than letters, digits and
                `._=+@:,-`.
            StoreError: the directory refuses the object.
        """
        with _content(data) as view:
            digest = hashlib.sha256(view).hexdigest()
            key = f"{prefix}/{digest}{suffix}"
            path = self._path(key)
            try:
                with self.writing():
                    self._create(key, view, digest)
                    if made_at is not None:
                        os.utime(path, (made_at.timestamp(), made_at.timestamp()))
                    self._make_durable(path)
            except (BaseError, OSError) as error:
                raise StoreError(
                    f"The object {key} cannot be written to {self.root}: {_first_line(error)}.",
                    fix="Check that the disk has space and that the folder may be written to.",
                ) from error
            return ObjectRef(key, digest, len(view))

    def get(self, key: str) -> bytes:
        """
        The content of an object.

        Raises:
            NotFoundError: no such object.
            StoreError: the content is not what was stored.
            StoreUnavailableError: it is not here, and the archive cannot be reached.
        """
        self._present(key)
        try:
            content = bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError:
            raise _missing(key, self.root) from None
        except BaseError as error:
            raise _unreadable(key, error) from error
        _check(key, hashlib.sha256(content).hexdigest())
        return content

    def local_path(self, key: str, *, verify: bool = True) -> Path:
        """
        The file of an object, to be read or mapped but never written.

        Args:
            key: the object.
            verify: whether to compare the content with its digest first.

        Raises:
            NotFoundError: no such object.
            StoreError: the content is not what was stored.
            StoreUnavailableError: it is not here, and the archive cannot be reached.
        """
        path = self._present(key)
        if verify:
            try:
                _check(key, sha256_of(path))
            except OSError as error:
                raise _unreadable(key, error) from error
        return path

    def open(self, key: str) -> BinaryIO:
        """An object, verified, as a file open for reading; raises as `local_path` does."""
        return self.local_path(key).open("rb")

    def list(self, prefix: str = "") -> Sequence[ObjectRef]:
        """The objects of the directory below a prefix (whole path segments), by key."""
        if prefix:
            _check_segments(prefix)
        return sorted(
            (
                ObjectRef(meta["path"], match["sha256"], meta["size"])
                for chunk in obstore.list(self._store, prefix or None, chunk_size=1000)
                for meta in chunk
                if (match := _NAME.fullmatch(meta["path"].rpartition("/")[2]))
            ),
            key=lambda ref: ref.key,
        )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Tell `_sweep`, in this and other processes, that the staging files of now are in use."""
        if not self._is_swept:  # not on opening: who only reads need not walk the directory, nor lock it
            self._is_swept = True
            self._sweep()
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    def _path(self, key: str) -> Path:
        _check_segments(key)
        if not _NAME.fullmatch(key.rpartition("/")[2]):
            raise ValueError(f"{key!r} is not an object key: its last part must begin with a SHA-256")
        return self.root / key

    def _present(self, key: str) -> Path:
        """The file of an object, fetched where it is missing; what was fetched has been verified."""
        path = self._path(key)
        if path.is_file():
            return path
        if self.remote is None:
            raise _missing(key, self.root)
        with self.writing():
            size = self.remote.download(key, path, path.name[:64])
            self._make_durable(path)
        get_logger().info("objects.fetched", key=key, size=size)
        return path

    def _create(self, key: str, view: memoryview, digest: str) -> None:
        try:
            obstore.put(self._store, key, view, mode="create")
        except AlreadyExistsError:
            if sha256_of(self.root / key) != digest:
                get_logger().warning("objects.damaged_object_replaced", key=key)
                obstore.put(self._store, key, view, mode="overwrite", use_multipart=False)

    def _make_durable(self, path: Path) -> None:
        """Sync the file and its folder, and once per process the folders above."""
        sync(path)
        folder = path.parent
        sync(folder)
        while folder != self.root and folder not in self._durable:
            self._durable.add(folder)
            folder = folder.parent
            sync(folder)

    def _sweep(self) -> None:
        """Remove what killed writers left, unless somebody is writing at this moment."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for folder, _, names in os.walk(self.root):
                for name in filter(_UNFINISHED.fullmatch, names):
                    Path(folder, name).unlink(missing_ok=True)
        except BlockingIOError:
            pass  # the next store sweeps
        finally:
            os.close(descriptor)


@contextmanager
def _content(data: bytes | Path) -> Iterator[memoryview]:
    if isinstance(data, bytes):
        yield memoryview(data)
    elif data.stat().st_size == 0:  # an empty file cannot be mapped
        yield memoryview(b"")
    else:
        with data.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            try:
                yield view
            finally:
                view.release()


def _check_segments(key: str) -> None:
    if not all(_SEGMENT.fullmatch(segment) for segment in key.split("/")):
        raise ValueError(
            f"{key!r} is not an object key: it needs segments of letters, digits and ._=+@:,- joined by "
            "single slashes, none beginning with a dot"
        )


def _check(key: str, digest: str) -> None:
    if not key.rpartition("/")[2].startswith(digest):
        raise DamagedObjectError(
            f"The object {key} is damaged: its content has the SHA-256 {digest}.",
            fix="Restore this file from a backup, or delete it and run again the step that made it.",
        )


def _missing(key: str, root: Path) -> NotFoundError:
    return NotFoundError(
        f"There is no object {key} in {root}.", fix="Run again the step that makes it, or check MARQUEE_HOME."
    )


def _unreadable(key: str, error: Exception) -> StoreError:
    return StoreError(
        f"The object {key} cannot be read: {_first_line(error)}.", fix="Check the disk and its permissions."
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")
