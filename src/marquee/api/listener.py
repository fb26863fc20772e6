"""What other processes have committed, heard as soon as it is: PostgreSQL's LISTEN."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from psycopg.pq.abc import PGresult

from marquee.errors import StoreError, StoreUnavailableError
from marquee.store.notify import CHANNELS
from marquee.store.postgres import Database
from marquee.store.wire import Wire
from marquee.telemetry import get_logger, metrics

__all__ = ["Listener"]

PROBE_SECONDS: Final = 1.0
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 2.0

Heard = Callable[[str], None]


class Listener:
    """
    Hears all channels of `store.notify` on one connection, which it opens again whenever that breaks.

    Callbacks run in the event loop; they must be quick, and must not raise.

    Args:
        silence_seconds: a server that leaves a round trip unanswered for so long is taken for lost.
    """

    def __init__(self, database: Database, *, silence_seconds: float = 2.0) -> None:
        self._database = database
        self._silence_seconds = silence_seconds
        self._callbacks: dict[str, list[Heard]] = {channel: [] for channel in CHANNELS}
        self._on_gap: list[Callable[[], None]] = []
        self._wire: Wire | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._under_way: list[asyncio.Future[None]] = []
        self._heard = {channel: metrics.NOTIFICATIONS.labels(channel) for channel in CHANNELS}
        self._is_connected = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether changes are heard of now."""
        return self._wire is not None and not self._wire.lost.done()

    def on(self, channel: str, callback: Heard) -> None:
        """Have the payload of each notification of a channel."""
        self._callbacks[channel].append(callback)

    def on_gap(self, callback: Callable[[], None]) -> None:
        """Be told that anything may have changed unheard: when the connection was lost, and made again."""
        self._on_gap.append(callback)

    async def run(self) -> None:
        """Listen until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                wire = await Wire.open(self._database, listen=CHANNELS, notified=self._tell)
            except StoreError as error:
                get_logger().debug("listener.not_connected", error=str(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads processes
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            try:
                self._gap()
                self._wire = wire
                self._is_connected.set()
                metrics.LISTENING.set(1)
                await self._watch(wire)
            finally:
                self._wire = None
                self._is_connected.clear()
                metrics.LISTENING.set(0)
                wire.close()
            get_logger().warning("listener.lost")
            self._gap()

    async def until_connected(self) -> None:
        """Wait for the connection."""
        await self._is_connected.wait()

    async def barrier(self) -> None:
        """
        Return when every notification that was committed before the call has been delivered.

        PostgreSQL signals the listeners of a notification before it answers the commit, and hands what it
        was signalled to the client before it ends the answer to any command: a round trip suffices. Who calls
        while one is under way shares the next: the one under way may have been sent before the commit.

        Raises:
            StoreUnavailableError: nothing is heard now.
        """
        wire = self._wire
        if wire is None:
            raise StoreUnavailableError(
                f"No changes are heard from PostgreSQL at {self._database.address}.",
                fix="Try again; `marquee doctor` looks into it.",
            )
        # Each caller has a future of its own: one that is cancelled must not cancel the others.
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        # Not "if the wire is free": it is before the callback that sends the next round trip has run.
        if not self._under_way:
            self._ask(wire)
        await mine

    def _ask(self, wire: Wire) -> None:
        self._under_way, self._waiting = self._waiting, []
        try:
            answer = wire.send()
        except StoreError as error:
            _fail(self._under_way, error)
            self._under_way = []
            return
        answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[list[PGresult]]) -> None:
        error = answer.exception()
        if error is not None:
            _fail([*self._under_way, *self._waiting], error)
            self._under_way, self._waiting = [], []
            return
        for future in self._under_way:
            if not future.done():
                future.set_result(None)
        self._under_way = []
        if self._waiting and self._wire is not None:
            self._ask(self._wire)

    async def _watch(self, wire: Wire) -> None:
        """Return when the connection has ended or gives no answer."""
        while not wire.lost.done():
            began = time.perf_counter()
            try:
                async with asyncio.timeout(self._silence_seconds):
                    await self.barrier()
            except (TimeoutError, StoreError):
                return
            metrics.BARRIER_SECONDS.observe(time.perf_counter() - began)
            await asyncio.wait([wire.lost], timeout=PROBE_SECONDS)

    def _tell(self, channel: str, payload: str) -> None:
        self._heard[channel].inc()
        for callback in self._callbacks[channel]:
            try:
                callback(payload)
            except Exception:  # the others must hear it all the same
                get_logger().exception("listener.callback_failed", channel=channel)

    def _gap(self) -> None:
        metrics.LISTENER_GAPS.inc()
        for callback in self._on_gap:
            try:
                callback()
            except Exception:  # the others must hear it all the same
                get_logger().exception("listener.callback_failed", channel="gap")


def _fail(futures: list[asyncio.Future[None]], error: BaseException) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
