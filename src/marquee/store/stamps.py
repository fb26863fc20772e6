"""
Stamps: a note beside files that they were verified, so that it need not be done at each start.

What the system keeps of a file (inode, size, and when its content and its entry last changed) is another
after any write to it and of any copy of it. A disk that loses bits without a write is not noticed by this:
who wants to look deletes the stamp.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

__all__ = ["once_for"]

TICK_NANOSECONDS: Final = 100_000_000
"""More than the grain of the times of any file system in use."""


def once_for(stamp: Path, files: Sequence[Path], verify: Callable[[], None]) -> None:
    """
    Verify files, unless it was done of these very ones before.

    Args:
        stamp: where that is noted; a note that cannot be read or written is none.
        files: all in one folder.
        verify: reads them, and raises if something is wrong.
    """
    marks, now = _marks(files), time.time_ns()
    if _noted(stamp) == marks:
        return
    verify()
    # A write within a tick of the last one would leave the same times.
    settled = all(mark["ctime_ns"] < now - TICK_NANOSECONDS for mark in marks.values())
    if settled and _marks(files) == marks:
        _note(stamp, marks)


def _marks(files: Sequence[Path]) -> dict[str, dict[str, int]]:
    found = {path.name: path.stat() for path in files}
    return {
        name: {
            "device": stat.st_dev,
            "inode": stat.st_ino,
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "ctime_ns": stat.st_ctime_ns,
        }
        for name, stat in found.items()
    }


def _noted(stamp: Path) -> object:
    try:
        return json.loads(stamp.read_bytes())
    except (OSError, ValueError):
        return None


def _note(stamp: Path, marks: dict[str, dict[str, int]]) -> None:
    with contextlib.suppress(OSError):  # where nothing can be written, each start verifies
        descriptor, name = tempfile.mkstemp(prefix=f".{stamp.name}-", dir=stamp.parent)
        with os.fdopen(descriptor, "w") as file:
            json.dump(marks, file)
        Path(name).replace(stamp)
