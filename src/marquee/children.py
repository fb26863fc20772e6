"""Child processes: the wish that they stop, how all are stopped, and how often one may die."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["MOST_DEATHS", "asked_to_stop", "deaths_lately", "stop"]

MOST_DEATHS: Final = 5
"""A child that dies more often within `WINDOW_SECONDS` will not do better the next time."""
WINDOW_SECONDS: Final = 60.0


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that is set by Ctrl-C or SIGTERM while the block runs; to be called from the main thread."""
    event = threading.Event()

    def note(*_: Any) -> None:
        event.set()

    former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def stop(processes: Sequence["subprocess.Popen[bytes]"], seconds: float) -> None:
    """
    Ask processes to stop, one after the other, and kill those that do not in time.

    Args:
        seconds: how long all of them together may take to finish what they are doing.
    """
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + seconds
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def deaths_lately(before: Sequence[float]) -> list[float]:
    """
    When a child died within `WINDOW_SECONDS`, one death just now included.

    Args:
        before: what this returned at the death before, by `time.monotonic()`.
    """
    now = time.monotonic()
    return [death for death in before if now - death < WINDOW_SECONDS] + [now]
