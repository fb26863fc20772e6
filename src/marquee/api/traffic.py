"""The traffic of the last hour, read seldom however often it is asked for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from marquee.errors import StoreError
from marquee.store.repositories import traffic
from marquee.store.repositories.traffic import Traffic
from marquee.telemetry import get_logger

__all__ = ["MINUTES", "RecentTraffic"]

MINUTES: Final = 60
RESTS: Final = 10.0
"""Between two readings, this many times what one took; meanwhile the last one is shown."""
LONGEST_REST: Final = 60.0


class RecentTraffic:
    """
    The last reading of a process.

    Args:
        run: calls a repository function, as `Services.run_long` does.
    """

    def __init__(self, run: Callable[..., Awaitable[Traffic]]) -> None:
        self._run = run
        self._lock = asyncio.Lock()
        self._read: Traffic | None = None
        self._stale_at = 0.0

    async def read(self) -> Traffic | None:
        """What came in, None while the database cannot say."""
        async with self._lock:
            if self._read is None or time.monotonic() >= self._stale_at:
                started = time.monotonic()
                try:
                    self._read = await self._run(traffic.read, minutes=MINUTES)
                except StoreError as error:
                    get_logger().debug("api.traffic_not_read", error=str(error))
                    return None
                ended = time.monotonic()
                self._stale_at = ended + min(RESTS * (ended - started), LONGEST_REST)
            return self._read
