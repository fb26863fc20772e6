"""
What is known of users, in memory for as long as it is true.

Each read is preceded by a barrier, after which everything that was committed before has been heard of; so
what is in memory then is what is in the database, whichever process wrote it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from typing import Final

import numpy as np

from marquee.api.listener import Listener
from marquee.data import Histories
from marquee.store.notify import EVERYTHING
from marquee.store.postgres import Database
from marquee.store.repositories.user_states import EMPTY, EVENTS, Precomputed, UserState, calls, decode
from marquee.store.wire import Line
from marquee.telemetry import metrics
from marquee.telemetry.spans import as_span

__all__ = ["EMPTY", "EVENTS", "Precomputed", "UserState", "UserStates", "histories"]

MOST_USERS_PER_READ: Final = 256


class UserStates:
    """
    The states of users, newest always.

    Args:
        listener: tells whose state has changed.
        max_bytes: memory for states; those not asked for the longest go first.
        silence_seconds: a server that leaves a read unanswered for so long is taken for lost.
    """

    def __init__(
        self, database: Database, listener: Listener, max_bytes: int, *, silence_seconds: float = 2.0
    ) -> None:
        self._listener = listener
        self._max_bytes = max_bytes
        self._bytes = 0
        self._fresh: OrderedDict[int, UserState] = OrderedDict()
        self._stale: OrderedDict[int, UserState] = OrderedDict()
        self._line = Line(database, silence_seconds)
        self._missing: dict[int, list[asyncio.Future[UserState]]] = {}
        self._reader: asyncio.Task[None] | None = None
        # What changed since the read under way was sent: it may not have seen that.
        self._changed: set[int] = set()
        self._all_changed = False
        self._hits = metrics.USER_CACHE.labels("hit")
        self._misses = metrics.USER_CACHE.labels("miss")
        listener.on("marquee_users", self._forget)
        listener.on("marquee_recommendations", lambda _: self._forget_all())
        listener.on_gap(self._forget_all)

    @as_span("users.read")
    async def get(self, user_id: int) -> UserState:
        """
        What is known of a user; a user nobody knows has no events.

        Everything that was committed before the call is in it.

        Raises:
            StoreUnavailableError: the database cannot be reached; `cached` may have what was known before.
        """
        await self._listener.barrier()
        state = self._fresh.get(user_id)
        if state is not None:
            self._fresh.move_to_end(user_id)
            self._hits.inc()
            return state
        return await self._miss(user_id)

    @as_span("users.read")
    async def get_many(self, user_ids: Sequence[int]) -> list[UserState]:
        """
        The same for several users, in their order.

        Raises:
            StoreUnavailableError: as `get`.
        """
        await self._listener.barrier()
        found = {user_id: self._fresh.get(user_id) for user_id in user_ids}
        missing = [user_id for user_id, state in found.items() if state is None]
        self._hits.inc(len(found) - len(missing))
        read = await asyncio.gather(*map(self._miss, missing))
        states = {user_id: state for user_id, state in found.items() if state is not None}
        states.update(zip(missing, read, strict=True))
        return [states[user_id] for user_id in user_ids]

    def cached(self, user_id: int) -> UserState | None:
        """What was last known of a user, true or not any more: for answers while the database is away."""
        return self._fresh.get(user_id) or self._stale.get(user_id)

    async def aclose(self) -> None:
        """Give up the connection; reads under way fail."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._line.close()

    def _miss(self, user_id: int) -> asyncio.Future[UserState]:
        """The state, read with those of all others who wait, after the read under way."""
        self._misses.inc()
        future: asyncio.Future[UserState] = asyncio.get_running_loop().create_future()
        self._missing.setdefault(user_id, []).append(future)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_missing(), name="users")
        return future

    async def _read_missing(self) -> None:
        try:
            while self._missing:
                users = list(self._missing)[:MOST_USERS_PER_READ]
                waiting = {user_id: self._missing.pop(user_id) for user_id in users}
                try:
                    states = await self._read(users)
                except Exception as error:  # each caller gets it
                    for future in chain.from_iterable(waiting.values()):
                        if not future.done():
                            future.set_exception(error)
                    continue
                for user_id, futures in waiting.items():
                    for future in futures:
                        if not future.done():
                            future.set_result(states[user_id])
        finally:
            self._reader = None
            for future in chain.from_iterable(self._missing.values()):
                future.cancel()
            self._missing.clear()

    async def _read(self, users: Sequence[int]) -> dict[int, UserState]:
        began = time.perf_counter()
        self._changed, self._all_changed = set(), False
        results = await self._line.send(*calls(users))
        states = decode(users, results)
        if not self._all_changed:
            for user_id in states.keys() - self._changed:
                self._keep(states[user_id])
        metrics.USER_READ_SECONDS.observe(time.perf_counter() - began)
        metrics.USER_CACHE_BYTES.set(self._bytes)
        return states

    def _keep(self, state: UserState) -> None:
        for kept in (self._fresh, self._stale):
            former = kept.pop(state.user_id, None)
            if former is not None:
                self._bytes -= former.nbytes
        self._fresh[state.user_id] = state
        self._bytes += state.nbytes
        while self._bytes > self._max_bytes:
            _, oldest = (self._stale or self._fresh).popitem(last=False)
            self._bytes -= oldest.nbytes

    def _forget(self, payload: str) -> None:
        if payload == EVERYTHING:
            self._forget_all()
            return
        users = [int(user_id) for user_id in payload.split()]
        self._changed.update(users)
        for user_id in users:
            state = self._fresh.pop(user_id, None)
            if state is not None:
                self._stale[user_id] = state

    def _forget_all(self) -> None:
        self._all_changed = True
        self._stale.update(self._fresh)
        self._fresh.clear()


def histories(states: Sequence[UserState], as_of: int) -> Histories:
    """
    What models know of these users.

    Args:
        as_of: moment of the query, microseconds since 1970. A user whose clock is ahead is asked for at the
            moment after their newest event: what was acknowledged counts.
    """
    lengths = np.array([len(state.events) for state in states], np.int64)
    indptr = np.zeros(len(states) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    # NumPy would look at each field of each array; the bytes are the same.
    events = np.frombuffer(b"".join([state.events.tobytes() for state in states]), EVENTS)
    timestamps = np.ascontiguousarray(events["timestamp"])
    moments = np.full(len(states), as_of, np.int64)
    some = lengths > 0
    moments[some] = np.maximum(moments[some], timestamps[indptr[1:][some] - 1] + 1)
    return Histories(
        indptr,
        np.ascontiguousarray(events["item"]),
        timestamps,
        np.ascontiguousarray(events["event"]),
        np.ascontiguousarray(events["rating"]),
        np.ascontiguousarray(events["watch"]),
        moments,
        np.fromiter((state.user_id for state in states), np.int64, len(states)),
    )
