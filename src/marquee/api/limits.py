"""
What one client, or all of them together, may ask for: rates, sizes of bodies, requests under way.

Each process counts for itself: with N processes on a port a client may reach up to N times a rate.
"""

import math
import time
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from limits import RateLimitItem, parse_many

from marquee.errors import ConfigError

__all__ = ["MAX_BODY_BYTES", "Overload", "RateLimits", "flaw_of_json"]

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 32
MAX_ELEMENTS: Final = 100_000
"""Elements of all arrays and objects of a body together; the bodies themselves set shorter limits."""

NO_MARKS: Final = bytes(set(range(256)) - set(b'[]{}",'))

LEAST: Final = 80
"""As many requests at a time are never too many."""
QUEUE_SECONDS: Final = 0.01
"""How long the queue of a process that cannot keep up may become."""
BURST_SECONDS: Final = 0.1
"""A longer queue is taken for a burst, and served, for so long."""


class RateLimits:
    """
    How often a key, a visitor or an address may ask.

    Args:
        per_key: `1000/second`; several are separated by `;`.
        per_address: of callers without a key.

    Raises:
        ConfigError: a rate cannot be read.
    """

    def __init__(self, per_key: str, per_address: str) -> None:
        self._counts = _Counts()
        self._per_key = _rates("RATE_PER_KEY", per_key)
        self._per_address = _rates("RATE_PER_ADDRESS", per_address)

    def seconds_to_wait(self, scope: Literal["key", "visitor", "address"], who: str) -> int:
        """Count a request; how many seconds its sender must wait when it is one too many, else 0."""
        for rate in self._per_address if scope == "address" else self._per_key:
            key = _key(rate, scope, who)
            count, end = self._counts.increase(key, rate.get_expiry())  # of a fixed window
            if count > rate.amount:
                return max(1, math.ceil(end - time.time()))
        return 0


class Overload:
    """
    Whether one more request is taken on.

    A queue that does not go away only makes everyone wait. So in a queue that has stood for `BURST_SECONDS`
    no more requests are let in than the process answers in `QUEUE_SECONDS` (Little's law), though never
    fewer than `LEAST`; a burst is let in up to the hard limit.

    Args:
        most: requests under way, the hard limit.

    Attributes:
        under_way: requests that were let in and are not answered yet.
        waiting: of the requests under way those that only wait for a pipeline run, which costs nothing.
        shed: how many were refused since the start.

    Source:
        The standing queue as the sign of overload: Nichols & Jacobson 2012, "Controlling queue delay".
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.under_way = 0
        self.waiting = 0
        self.shed = 0
        self._limit: float = min(LEAST, most)
        self._calm = 0.0
        self._before = 0
        self._peak = 0
        self._window = 0.0
        self._answered = 0

    def admits(self, under_way: int, answered: int, now: float) -> bool:
        """
        Whether to take on a request that has just come.

        Args:
            under_way: requests that are not answered yet, without this one.
            answered: requests answered since the start.
            now: the event loop's clock, seconds.
        """
        busy = under_way - self.waiting
        if busy < self._before:  # some have ended: a round of arrivals is over
            if self._peak <= self._limit:
                self._calm = now
            self._peak = 0
        self._before = busy
        if busy >= self._peak:
            self._peak = busy + 1
        if now - self._window >= BURST_SECONDS:
            rate = (answered - self._answered) / (now - self._window)
            self._limit = min(max(rate * QUEUE_SECONDS, LEAST), self.most)
            self._window, self._answered = now, answered
        return busy < self._limit or (busy < self.most and now - self._calm < BURST_SECONDS)


def flaw_of_json(body: bytes) -> str | None:
    """What is wrong with the shape of a JSON body, before anything parses it; None where nothing is."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH and body.count(b",") < MAX_ELEMENTS:
        return None
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    marks = unescaped.translate(None, NO_MARKS).replace(b'""', b"")
    bare = b"".join(marks.split(b'"')[::2])  # what stands outside of strings
    if bare.count(b",") >= MAX_ELEMENTS:
        return f"has more than {MAX_ELEMENTS:,} elements"
    brackets = np.frombuffer(bare.replace(b",", b""), np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)
    if steps.size and steps.cumsum().max() > MAX_DEPTH:
        return f"is nested deeper than {MAX_DEPTH} levels"
    return None


class _Counts:
    """
    The windows that are open, in memory.

    The library's own memory storage starts a thread every 10 ms, and each of them goes through all keys.
    """

    def __init__(self) -> None:
        self._windows: dict[str, tuple[int, float]] = {}
        self._room = 1024

    def increase(self, key: str, seconds: int) -> tuple[int, float]:
        """Count once in the window of a key, or in a new one of so many seconds: the count, and its end."""
        now = time.time()
        count, end = self._windows.get(key, (0, 0.0))
        if end <= now:
            if len(self._windows) >= self._room:
                self._windows = {k: open_ for k, open_ in self._windows.items() if open_[1] > now}
                self._room = max(1024, 2 * len(self._windows))
            count, end = 0, now + seconds
        self._windows[key] = (count + 1, end)
        return count + 1, end


@lru_cache(8192)
def _key(rate: RateLimitItem, scope: str, who: str) -> str:
    return rate.key_for(scope, who)  # which escapes its parts anew each time


def _rates(name: str, text: str) -> list[RateLimitItem]:
    try:
        return list(parse_many(text))
    except ValueError:
        raise ConfigError(
            f"MARQUEE_API__{name} {text!r} is not a rate.", fix="Write it as 1000/second or 100/10 seconds."
        ) from None
