"""Calls that come together are answered together, so that they share what is costly."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from marquee.telemetry.metrics import BATCH_REQUESTS, BATCH_SECONDS

__all__ = ["Batcher"]

LEAST_PATIENCE_SECONDS: Final = 0.001
"""A batch waits for so long for those that come, however quick an answer is."""
MEMORY: Final = 0.1
"""Weight of the newest batch in what an answer is thought to take."""

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """
    Gathers concurrent calls into batches.

    A batch waits for the calls that are already on their way to it, for as long as an answer takes at most;
    it never waits where nobody comes.

    Args:
        name: of the stage in the metrics.
        answer: answers a batch in its order, in the event loop. What it raises, each caller of the batch
            gets.
        most: calls of a batch at most.
    """

    def __init__(self, name: str, answer: Callable[[Sequence[Q]], Sequence[A]], *, most: int) -> None:
        self._answer = answer
        self._most = most
        self._seconds = 0.0
        self._coming = 0
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._handle: asyncio.Handle | None = None
        self._due = False
        self._sizes, self._times = BATCH_REQUESTS.labels(name), BATCH_SECONDS.labels(name)

    async def ask(self, coming: Awaitable[Q]) -> A:
        """
        The answer to one call.

        Args:
            coming: what the call brings, once it is there; what it raises, the caller gets.
        """
        self._coming += 1
        try:
            question = await coming
        except BaseException:
            self._coming -= 1
            self._plan()
            raise
        self._coming -= 1
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        self._plan()
        return await future

    def _plan(self) -> None:
        """Answer soon if nobody else comes or the batch is full, else when patience ends."""
        if not self._waiting or self._due:
            return
        loop = asyncio.get_running_loop()
        if not self._coming or len(self._waiting) >= self._most:
            if self._handle is not None:
                self._handle.cancel()
            # Not at once: those that became ready in the same round of the loop join.
            self._handle, self._due = loop.call_soon(self._answer_batch), True
        elif self._handle is None:
            self._handle = loop.call_later(max(self._seconds, LEAST_PATIENCE_SECONDS), self._answer_batch)

    def _answer_batch(self) -> None:
        batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        self._handle, self._due = None, False
        asked = [(question, future) for question, future in batch if not future.done()]
        if asked:
            began = time.perf_counter()
            try:
                answers = self._answer([question for question, _ in asked])
            except Exception as error:  # each caller gets it
                for _, future in asked:
                    future.set_exception(error)
            else:
                for (_, future), answer in zip(asked, answers, strict=True):
                    future.set_result(answer)
            seconds = time.perf_counter() - began
            self._seconds += MEMORY * (seconds - self._seconds)
            self._sizes.observe(len(asked))
            self._times.observe(seconds)
        self._plan()
