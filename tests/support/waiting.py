"""Waiting for what comes about elsewhere: in a server, another process, a thread or a task."""

import asyncio
import inspect
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 400
"""For a busy machine, and within the time that pytest gives a test: so it is told what was waited for."""
EVERY_SECONDS = 0.02


def until(
    holds: Callable[[], T],
    explain: Callable[[], object] = lambda: "it never happened",
    process: "subprocess.Popen[Any] | None" = None,
    *,
    seconds: float = DEADLINE_SECONDS,
    every: float = EVERY_SECONDS,
) -> T:
    """
    Wait for something, or for the end of the process that was to bring it.

    Args:
        explain: what to say if it does not come.
        seconds: how long it may take.
        every: seconds between two looks.

    Returns:
        What `holds` gives, once that is true.
    """
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        _assert_possible(deadline, process, explain)
        time.sleep(every)
    return found


async def eventually(
    holds: Callable[[], Any],
    explain: Callable[[], object] = lambda: "it never happened",
    process: "subprocess.Popen[Any] | None" = None,
) -> Any:
    """
    The same in a test whose loop goes on meanwhile.

    Args:
        holds: a coroutine function, or one that may block: it is called in a thread.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := await _answer(holds)):
        _assert_possible(deadline, process, explain)
        await asyncio.sleep(EVERY_SECONDS)
    return found


async def _answer(holds: Callable[[], Any]) -> Any:
    if inspect.iscoroutinefunction(holds):
        return await holds()
    return await asyncio.to_thread(holds)


def _assert_possible(
    deadline: float, process: "subprocess.Popen[Any] | None", explain: Callable[[], object]
) -> None:
    assert process is None or process.poll() is None, f"The process ended: {explain()}"
    assert time.monotonic() < deadline, explain()
