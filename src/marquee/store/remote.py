"""
The archive: objects in an S3-compatible service, or in a second directory.

What is written here is written once. A content-hashed key has but one content, and a name (a manifest) is
given once and never again. Everything streams in bounded memory, every request has a time-out, and an object
that was cut short by a crash does not exist: a service shows an object when it has all of it.
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import unquote

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

from marquee.config import ObjectSettings
from marquee.errors import ConfigError, DamagedObjectError, NotFoundError, StoreError
from marquee.store.disk import sync
from marquee.store.s3 import open_s3, translated
from marquee.telemetry import get_logger

__all__ = ["PART_BYTES", "RemoteObject", "RemoteStore"]

PART_BYTES: Final = 8 << 20
"""Objects up to this size travel in one request, larger ones in parts of it."""
PARTS: Final = 9_000
"""Parts of one object at most; S3 takes 10,000. Larger objects have larger parts."""
PARTS_AT_A_TIME: Final = 4
MADE_AT: Final = "made-at"
"""Name of the metadata that says since when there is the file of an object: it may have waited for days."""

Told = Callable[[int], None]
"""Called with the bytes that were read or written since the last call; what it raises stops the transfer."""


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """
    An object of the archive.

    Attributes:
        key: where, relative to the URL.
        size: in bytes.
        modified: when it was written, by the clock of the service.
    """

    key: str
    size: int
    modified: datetime


class RemoteStore:
    """
    The archive of a `MARQUEE_OBJECTS__URL`. Nothing is asked of it before the first call of a method.

    Every method raises `StoreUnavailableError` when the service cannot be reached or is too slow, and
    `StoreError` when it refuses.

    Args:
        settings: with a URL.

    Raises:
        ConfigError: the URL or the credentials file cannot be used.
    """

    def __init__(self, settings: ObjectSettings) -> None:
        assert settings.url is not None
        self.url = settings.url.rstrip("/")
        self._directory: Path | None = None
        self._store: S3Store | LocalStore
        if self.url.startswith("file://"):
            self._directory = Path(unquote(self.url.removeprefix("file://")))
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(
                    f"The directory of MARQUEE_OBJECTS__URL cannot be made: {error}.",
                    fix="Give a directory that you may write to.",
                ) from error
            self._store = LocalStore(self._directory)
        else:
            self._store = open_s3(settings, self.url)

    @classmethod
    def open(cls, settings: ObjectSettings) -> Self | None:
        """The archive that is configured, if one is."""
        return None if settings.url is None else cls(settings)

    def upload(self, key: str, path: Path, sha256: str, *, told: Told | None = None) -> bool:
        """
        Store a file under a content-hashed key, whole or not at all; its time of modification goes with it.

        An object of another size under this key was damaged by somebody: it is replaced.

        Args:
            key: that no other content will ever have.
            path: the file; not read into memory.
            sha256: what its content must have.
            told: of each piece that was read.

        Returns:
            Whether it was not there yet.

        Raises:
            StoreError: the file has another digest.
        """
        found = path.stat()
        size = found.st_size
        made_at = datetime.fromtimestamp(found.st_mtime, UTC).isoformat()
        attributes = None if self._directory is not None else {MADE_AT: made_at}
        mode: Literal["create", "overwrite"] = "create"
        there = self._size(key)
        if there == size:
            return False
        if there is not None:
            get_logger().warning("archive.damaged_object_replaced", key=key, size=there, expected=size)
            mode = "overwrite"
        pieces = _pieces(path, key, sha256, max(PART_BYTES, -(-size // PARTS)), told)
        with self._translated(key):
            if size <= PART_BYTES:
                try:
                    content = b"".join(pieces)
                    obstore.put(
                        self._store,
                        key,
                        content,
                        attributes=attributes,
                        mode=mode,
                        use_multipart=False,
                    )
                except AlreadyExistsError:
                    return False  # another courier was faster
            else:
                # There is no create-once of parts. Equal keys have equal content, so the last one may win.
                obstore.put(
                    self._store,
                    key,
                    pieces,
                    attributes=attributes,
                    use_multipart=True,
                    chunk_size=max(PART_BYTES, -(-size // PARTS)),
                    max_concurrency=PARTS_AT_A_TIME,
                )
            if self._directory is not None:
                os.utime(self._directory / key, ns=(found.st_atime_ns, found.st_mtime_ns))
            self._make_durable(key)
        if (arrived := self._size(key)) != size:
            raise StoreError(
                f"The object {key} has {arrived} of {size} bytes in {self.url}.", fix="Try again."
            )
        return True

    def download(self, key: str, path: Path, sha256: str | None, *, told: Told | None = None) -> int:
        """
        Write an object to a file, whole or not at all; it is on the disk when this returns.

        Args:
            path: where; folders are made.
            sha256: what the content must have; None: it is not checked.
            told: of each piece that was written.

        Returns:
            Its size in bytes.

        Raises:
            NotFoundError: there is no such object.
            StoreError: the object is damaged, or the file cannot be written.
        """
        size = self._size(key)
        if size is None:
            raise self._missing(key)
        digest = hashlib.sha256()
        half = path.with_name(f"{path.name}#{secrets.randbits(62)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with half.open("xb") as file:
                for piece in self._ranges(key, size):
                    digest.update(piece)
                    file.write(piece)
                    if told is not None:
                        told(len(piece))
                file.flush()
                os.fsync(file.fileno())
            if sha256 is not None and digest.hexdigest() != sha256:
                raise DamagedObjectError(
                    f"The object {key} in {self.url} is damaged: it has {size} bytes and the SHA-256 "
                    f"{digest.hexdigest()} instead of {sha256}.",
                    fix="Delete it there; `marquee archive` sends it again from a home that has it.",
                )
            half.replace(path)
            sync(path.parent)
        except OSError as error:
            raise StoreError(
                f"The object {key} cannot be written to {path}: {error.strerror or error}.",
                fix="Check that the disk has space and that the folder may be written to.",
            ) from error
        finally:
            half.unlink(missing_ok=True)
        return size

    def exists(self, key: str) -> bool:
        """Whether an object is there; its content is not looked at."""
        return self._size(key) is not None

    def made_at(self, key: str) -> datetime | None:
        """When the file of an object was made, where that is known; the object itself may be younger."""
        with self._translated(key):
            try:
                found = obstore.get(self._store, key, options={"head": True})
            except FileNotFoundError:
                return None
        if self._directory is not None:
            return found.meta["last_modified"]
        said = found.attributes.get(MADE_AT)
        return None if said is None else datetime.fromisoformat(said)

    def list(self, prefix: str = "") -> Iterator[RemoteObject]:
        """The objects below a prefix (whole path segments), in no order."""
        with self._translated(prefix or "/"):
            for chunk in obstore.list(self._store, prefix or None, chunk_size=1000):
                for meta in chunk:
                    yield RemoteObject(meta["path"], meta["size"], meta["last_modified"])

    def delete(self, *keys: str) -> None:
        """Delete objects; those that are not there are no error."""
        if self._directory is not None:
            for key in keys:
                (self._directory / key).unlink(missing_ok=True)
        elif keys:
            with self._translated(keys[0]):
                obstore.delete(self._store, keys)

    def put_named(self, key: str, data: bytes) -> None:
        """
        Give a small object a name, once and for all; the same content again is success.

        Raises:
            StoreError: another content has this name.
        """
        with self._translated(key):
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
                self._make_durable(key)
            except AlreadyExistsError:
                # Perhaps by ourselves: the answer to the first try may have been lost.
                if self._size(key) != len(data) or self.get_bytes(key, len(data)) != data:
                    raise StoreError(
                        f"There is another object {key} in {self.url}.", fix="Choose another name."
                    ) from None

    def get_bytes(self, key: str, limit: int) -> bytes:
        """
        The content of a small object.

        Args:
            limit: bytes that it may have.

        Raises:
            NotFoundError: there is no such object.
            StoreError: it is larger.
        """
        size = self._size(key)
        if size is None:
            raise self._missing(key)
        if size > limit:
            raise StoreError(
                f"The object {key} in {self.url} has {size} bytes; {limit} are allowed.",
                fix="Look who wrote it: Marquee writes no such object.",
            )
        return b"".join(self._ranges(key, size))

    def _size(self, key: str) -> int | None:
        with self._translated(key):
            try:
                return obstore.head(self._store, key)["size"]
            except FileNotFoundError:
                return None
            except BaseError:
                # The answer to HEAD has no body, so it cannot say why: GET says it.
                return obstore.get(self._store, key).meta["size"]

    def _ranges(self, key: str, size: int) -> Iterator[memoryview]:
        """The content, each range by a request of its own: each has its time-out and its retries."""
        for start in range(0, size, PART_BYTES):
            with self._translated(key):
                end = min(start + PART_BYTES, size)
                try:
                    piece = obstore.get_range(self._store, key, start=start, end=end)
                except FileNotFoundError:
                    raise self._missing(key) from None
            yield memoryview(piece)

    def _make_durable(self, key: str) -> None:
        """A service does this itself."""
        if self._directory is not None:
            path = self._directory / key
            for step in (path, *path.relative_to(self._directory).parents):
                sync(self._directory / step)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise translated(error, self.url, key) from error

    def _missing(self, key: str) -> NotFoundError:
        return NotFoundError(f"There is no object {key} in {self.url}.", fix="Check MARQUEE_OBJECTS__URL.")


def _pieces(path: Path, key: str, sha256: str, size: int, told: Told | None) -> Iterator[bytes]:
    """The content in pieces; the last one is held back until all of it has proved to be what it must be."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        piece = file.read(size)
        while True:
            digest.update(piece)
            following = file.read(size)
            if not following and digest.hexdigest() != sha256:
                raise DamagedObjectError(
                    f"The object {key} is damaged here: {path} has the SHA-256 {digest.hexdigest()}.",
                    fix="Run again the step that made it, or delete the file where the archive has it.",
                )
            yield piece
            if told is not None:
                told(len(piece))
            if not following:
                return
            piece = following
