"""
A lane: one thread that answers many callers at once.

While a batch is computed the next one gathers, so that under load batches grow by themselves and without it
nobody waits. A large batch grows only as far as it stays quick: whoever comes next must not wait for long.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, TypeVar

from marquee.telemetry.metrics import BATCH_REQUESTS, BATCH_SECONDS

__all__ = ["Lane", "LateError"]

Q = TypeVar("Q")
A = TypeVar("A")

LEAST: Final = 16
"""Batches may always grow this far: what a batch costs at all is shared, and slow models need that most."""
MEMORY: Final = 0.2
"""Weight of the newest batch in what a question is thought to cost."""


class LateError(Exception):
    """There was, or will be, no answer in time."""


class Lane(Generic[Q, A]):
    """
    Answers questions in batches, beside the event loop, in the order in which they come.

    Args:
        name: of the thread, and of the stage in the metrics.
        answer: answers a batch, one answer or error each; called in the lane's thread.
        batch_seconds: how long a batch of more than `LEAST` may take.
        most: questions of a batch at most.
    """

    def __init__(
        self,
        name: str,
        answer: Callable[[Sequence[Q]], Sequence[A | Exception]],
        *,
        batch_seconds: float = 0.01,
        most: int = 32,
    ) -> None:
        self._answer = answer
        self._batch_seconds = batch_seconds
        self._most = most
        self._seconds_each = 0.0
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._busy = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"lane-{name}")
        self._sizes, self._seconds = BATCH_REQUESTS.labels(name), BATCH_SECONDS.labels(name)

    def __len__(self) -> int:
        """Questions that wait."""
        return len(self._waiting)

    async def ask(self, question: Q, seconds: float) -> A:
        """
        The answer to a question.

        Raises:
            LateError: it is not there in so many seconds, or will not be: then at once.
        """
        if len(self._waiting) * self._seconds_each > seconds:
            raise LateError
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        self._waiting.append((question, future))
        if not self._busy:
            self._busy = True
            # Not at once: those that became ready in the same round of the loop join.
            loop.call_soon(self._start)
        timer = loop.call_later(seconds, _expire, future)
        try:
            return await future
        finally:
            timer.cancel()

    def close(self) -> None:
        """Let go of the thread; whoever still waits is answered late."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        while self._waiting:
            _expire(self._waiting.popleft()[1])

    def _start(self) -> None:
        """Begin the next batch, if anybody waits."""
        size = self._most
        if self._seconds_each:
            size = min(size, max(LEAST, int(self._batch_seconds / self._seconds_each)))
        batch: list[tuple[Q, asyncio.Future[A]]] = []
        while self._waiting and len(batch) < size:
            asked = self._waiting.popleft()
            if not asked[1].done():
                batch.append(asked)
        self._busy = bool(batch)
        if batch:
            self._executor.submit(self._work, batch, asyncio.get_running_loop())

    def _work(self, batch: list[tuple[Q, asyncio.Future[A]]], loop: asyncio.AbstractEventLoop) -> None:
        started = time.perf_counter()
        questions = [question for question, _ in batch]
        try:
            answers = self._answer(questions)
        except Exception as error:
            # One question may spoil it for all: each is asked alone.
            answers = [self._alone(question) for question in questions] if len(batch) > 1 else [error]
        seconds = time.perf_counter() - started
        loop.call_soon_threadsafe(self._finish, batch, answers, seconds)

    def _alone(self, question: Q) -> A | Exception:
        try:
            return self._answer([question])[0]
        except Exception as error:
            return error

    def _finish(
        self,
        batch: list[tuple[Q, asyncio.Future[A]]],
        answers: Sequence[A | Exception],
        seconds: float,
    ) -> None:
        each = seconds / len(batch)
        self._seconds_each += MEMORY * (each - self._seconds_each) if self._seconds_each else each
        self._sizes.observe(len(batch))
        self._seconds.observe(seconds)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._start()


def _expire(future: asyncio.Future[A]) -> None:
    if not future.done():
        future.set_exception(LateError())
