"""
Copies of checkpoints in the archive: a training whose machine is lost is continued by another.

The training never waits for them, and what cannot be copied costs epochs, not the training.
"""

import shutil
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final, Self
from uuid import UUID

from marquee.errors import MarqueeError
from marquee.store.disk import sha256_of
from marquee.store.remote import RemoteStore
from marquee.telemetry import get_logger

__all__ = ["CheckpointCopies", "sweep"]

PREFIX: Final = "checkpoints"
COPY_SECONDS: Final = 60.0
"""How much of a training may be lost, besides the step under way and the copy itself."""
STOP_SECONDS: Final = 5.0


class CheckpointCopies:
    """
    Copies the newest checkpoint of a run as it goes on, while used as a context manager.

    On entering, a folder that does not exist is filled from the archive.

    Args:
        remote: the archive; without one nothing is done.
        folder: of the run's checkpoints, with a sub-folder per part of the training.
    """

    def __init__(self, remote: RemoteStore | None, folder: Path, run_id: UUID) -> None:
        self._remote = remote
        self._folder = folder
        self._prefix = f"{PREFIX}/{run_id}"
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._remote is not None:
            if not self._folder.exists():
                self.fetch()
            self._thread = threading.Thread(target=self._run, name="checkpoint copies", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def fetch(self) -> None:
        """Bring what another machine has left here."""
        if self._remote is None:
            return
        try:
            for found in self._remote.list(self._prefix):
                place = PurePosixPath(found.key).relative_to(self._prefix)
                digest, _, name = place.name.partition(".")
                self._remote.download(found.key, self._folder / place.parent / name, digest)
                get_logger().info("checkpoints.fetched", key=found.key, size=found.size)
        except MarqueeError as error:
            get_logger().warning("checkpoints.not_fetched", error=str(error))

    def copy(self) -> None:
        """Copy the newest checkpoint of each part, and drop older copies of that part."""
        if self._remote is None:
            return
        newest = {path.parent: path for path in sorted(self._folder.rglob("*.safetensors"), key=_age)}
        try:
            for path in newest.values():
                part = "/".join((self._prefix, *path.parent.relative_to(self._folder).parts))
                digest = sha256_of(path)
                key = f"{part}/{digest}.{path.name}"
                self._remote.upload(key, path, digest, told=self._go_on)
                older = (found.key for found in self._remote.list(part) if found.key != key)
                self._remote.delete(*(one for one in older if one.rpartition("/")[0] == part))
        except FileNotFoundError:
            return  # the training has a newer one already: next time
        except MarqueeError as error:
            get_logger().warning("checkpoints.not_copied", error=str(error))

    def forget(self) -> None:
        """Delete all copies: nobody continues what has ended."""
        if self._remote is not None:
            _delete(self._remote, self._prefix)

    def _run(self) -> None:
        while not self._ended.wait(COPY_SECONDS):
            try:
                self.copy()
            except _EndedError:
                return

    def _go_on(self, _: int) -> None:
        if self._ended.is_set():
            raise _EndedError


def sweep(
    remote: RemoteStore | None, folder: Path, ended: Callable[[Collection[UUID]], Collection[UUID]]
) -> None:
    """
    Delete the checkpoints of trainings that have ended without doing so, here and in the archive.

    Args:
        folder: of all checkpoints, with a sub-folder per run.
        ended: which of some runs have ended.
    """
    for run_id in ended(_run_ids(path.name for path in folder.glob("*"))):
        shutil.rmtree(folder / str(run_id), ignore_errors=True)
    if remote is None:
        return
    try:
        copied = _run_ids(found.key.split("/")[1] for found in remote.list(PREFIX))
    except MarqueeError as error:
        get_logger().warning("checkpoints.not_deleted", prefix=PREFIX, error=str(error))
        return
    for run_id in ended(copied):
        _delete(remote, f"{PREFIX}/{run_id}")


def _delete(remote: RemoteStore, prefix: str) -> None:
    try:
        remote.delete(*(found.key for found in remote.list(prefix)))
    except MarqueeError as error:
        get_logger().warning("checkpoints.not_deleted", prefix=prefix, error=str(error))


def _run_ids(names: Iterable[str]) -> set[UUID]:
    found = set()
    for name in names:
        with suppress(ValueError):  # somebody else's
            found.add(UUID(name))
    return found


class _EndedError(Exception):
    """The training has ended; its last copy is not needed."""


def _age(path: Path) -> str:
    """Names end in the number of the step."""
    return path.stem.rpartition("-")[2]
