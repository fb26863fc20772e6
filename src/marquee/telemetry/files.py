"""Log files that rotate, one for each process."""

import fcntl
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from marquee.config import LogSettings
from marquee.errors import ConfigError

__all__ = ["LogFile", "open_log_file"]

MOST_PROCESSES: Final = 1024


class LogFile(RotatingFileHandler):
    """
    A log file that only this process writes.

    Of two processes that shared a file, one would go on writing to what the other has put aside. So each
    takes the first name that nobody has locked, and the kernel unlocks it when the process ends.
    """

    def __init__(self, path: Path, lock: int, settings: LogSettings) -> None:
        size = int(settings.file_mib * 2**20)
        super().__init__(path, maxBytes=size, backupCount=settings.files, encoding="utf-8", errors="replace")
        self._lock_file = lock

    def append(self, lines: str) -> None:
        """Write whole lines, each with its end."""
        assert self.lock is not None  # made by `__init__`
        with self.lock:
            if self.stream is None:
                return  # closed: the process ends
            if self.stream.tell() + len(lines) > self.maxBytes:
                self.doRollover()
            self.stream.write(lines)
            self.stream.flush()

    def close(self) -> None:
        """Close it, and leave its name to others."""
        super().close()
        lock, self._lock_file = self._lock_file, -1
        if lock >= 0:
            os.close(lock)


def open_log_file(wanted: Path, settings: LogSettings) -> LogFile:
    """
    The file of this process.

    Args:
        wanted: the file of the first process.

    Raises:
        ConfigError: it cannot be written.
    """
    wanted = wanted.expanduser().absolute()
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, MOST_PROCESSES):
            path = wanted if number == 1 else wanted.with_stem(f"{wanted.stem}-{number}")
            lock = _locked(path.with_name(f".{path.name}.lock"))
            if lock is not None:
                return LogFile(path, lock, settings)
    except OSError as error:
        raise ConfigError(
            f"The log file {wanted} cannot be written: {error.strerror}.",
            fix="Set MARQUEE_LOG__FILE to a file in a folder of this account.",
        ) from None
    raise ConfigError(f"{MOST_PROCESSES} processes write to {wanted}.", fix="Set MARQUEE_LOG__FILE apart.")


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock, None while another process does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
