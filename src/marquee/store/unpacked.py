"""
The folder of unpacked bundles, which the processes of a machine share.

Whoever uses a bundle notes that in the time of its folder, so that what nobody has used for long can go. One
that is wanted again is unpacked again.
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from marquee.store.formats import MANIFEST
from marquee.telemetry import get_logger

__all__ = ["STAGING", "alone", "let_unused_go", "use"]

STAGING: Final = ".unpack-"
"""Beginning of the names of folders that are being made."""
NOTED_SECONDS: Final = 3600.0
"""A use is noted no more often than this. What goes has not been used for a day at least: that is far off."""

_NAME: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def use(folder: Path) -> bool:
    """
    Note that a bundle is used, where it is there: from then on nobody removes it.

    Args:
        folder: of the unpacked bundle.

    Returns:
        Whether it is there.
    """
    try:
        if time.time() - folder.stat().st_mtime > NOTED_SECONDS:
            with _held(folder.parent, fcntl.LOCK_SH):  # not between the look and the deed of who removes
                os.utime(folder)
    except FileNotFoundError:
        return False
    except OSError as error:  # it can be read all the same
        get_logger().warning("bundle.use_not_noted", folder=str(folder), error=error.strerror)
    return folder.is_dir()


@contextmanager
def alone(cache: Path) -> Iterator[int]:
    """Keep others from unpacking, converting and removing bundles; yields a descriptor of the folder."""
    with _held(cache, fcntl.LOCK_EX) as descriptor:
        for left_by_a_killed_process in cache.glob(f"{STAGING}*"):
            shutil.rmtree(left_by_a_killed_process)
        yield descriptor


def let_unused_go(cache: Path, needed: Iterable[str], unused: timedelta) -> int:
    """
    Remove the bundles that nobody has used for so long, but the newest of each model.

    Args:
        cache: folder of unpacked bundles; it need not be there.
        needed: keys of the manifests of bundles that stay, whenever they were used.
        unused: a day or more.

    Returns:
        How many were removed. What the system refuses to remove stays, and is logged.
    """
    if not cache.is_dir():
        return 0
    before = time.time() - unused.total_seconds()
    removed = 0
    stay = {key.rpartition("/")[2][:64] for key in needed}
    try:
        with alone(cache):
            folders = [path for path in cache.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
            stay |= _newest(folders)
            for folder in folders:
                if folder.name not in stay and folder.stat().st_mtime < before:
                    _remove(folder)
                    removed += 1
                    get_logger().info("bundle.removed", folder=str(folder))
    except OSError as error:
        get_logger().warning("bundle.not_removed", folder=str(cache), error=error.strerror)
    return removed


def _remove(folder: Path) -> None:
    """What is made of it first, so that a process that dies meanwhile leaves the rest to the next."""
    for beside in folder.parent.glob(f"{folder.name}.*"):
        if beside.is_dir():
            shutil.rmtree(beside)
        else:
            beside.unlink()
    gone = folder.with_name(f"{STAGING}{folder.name}")
    folder.rename(gone)  # whole or not at all
    shutil.rmtree(gone)


def _newest(folders: Collection[Path]) -> set[str]:
    """The newest bundle of each model; one that cannot be read is none."""
    newest: dict[str, tuple[str, str]] = {}
    for folder in folders:
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            model, version = str(manifest["model"]), str(manifest["version"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        newest[model] = max(newest.get(model, ("", "")), (version, folder.name))
    return {name for _, name in newest.values()}


@contextmanager
def _held(cache: Path, kind: int) -> Iterator[int]:
    descriptor = os.open(cache, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, kind)
        yield descriptor
    finally:
        os.close(descriptor)
