"""Requests at a pace that does not depend on the answers."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import uvloop

__all__ = ["Asked", "open_loop", "run"]

T = TypeVar("T")


@dataclass
class Asked:
    """
    What an open loop has seen.

    Attributes:
        waits: milliseconds from when a request was due to its answer, by status.
        broken: connections that were lost with a request on them.
        resent: of requests on a connection that the server had closed for idleness as they were written: they
            were sent again on another, as every HTTP client does (RFC 9112, 9.3.1).
        offered: requests that became due.
    """

    waits: dict[int, list[float]] = field(default_factory=dict)
    broken: int = 0
    resent: int = 0
    offered: int = 0
    seconds: float = 0.0

    def counts(self) -> Counter[int]:
        """Answers by status."""
        return Counter({status: len(waits) for status, waits in self.waits.items()})

    def percentile(self, share: float, status: int = 200) -> float:
        """Milliseconds that a share (in percent) of the answers of a status stayed below."""
        waits = self.waits.get(status)
        return float(np.percentile(waits, share)) if waits else float("nan")


class _Connection(asyncio.Protocol):
    """One request at a time, and the bytes of its answer."""

    def __init__(
        self,
        asked: Asked,
        free: "list[_Connection]",
        opened: "set[_Connection]",
        again: list[tuple[bytes, float]],
    ) -> None:
        self._asked, self._free, self._opened, self._again = asked, free, opened, again
        self._buffer = b""
        self._request = b""
        self._due: float | None = None
        self._is_reused = False
        self._transport: Any = None

    @property
    def is_busy(self) -> bool:
        return self._due is not None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._opened.add(self)
        self._free.append(self)

    def close(self) -> None:
        self._transport.close()

    def ask(self, request: bytes, due: float) -> None:
        self._request, self._due = request, due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or self._due is None:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        if len(body) < int(lower[at + 15 :].partition(b"\r\n")[0]):
            return
        wait = 1000.0 * (time.perf_counter() - self._due)
        self._asked.waits.setdefault(int(head[9:12]), []).append(wait)
        self._due, self._buffer, self._is_reused = None, b"", True
        if b"connection: close" in lower:
            self._transport.close()
        else:
            self._free.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._opened.discard(self)
        if self._due is not None:
            if self._is_reused and not self._buffer:
                self._again.append((self._request, self._due))
                self._asked.resent += 1
            else:
                self._asked.broken += 1
            self._due = None
        if self in self._free:
            self._free.remove(self)


async def open_loop(
    port: int,
    request: Callable[[], bytes],
    rate: float,
    until: Callable[[float], bool],
    *,
    connections: int = 1_000,
) -> Asked:
    """
    Ask at a constant rate, whatever is answered.

    Args:
        request: makes the bytes of one.
        rate: requests per second.
        until: told the seconds since the start; ends the loop by True.
        connections: at most so many at a time; a request that finds none free waits for one, and its wait
            counts from when it was due.
    """
    loop = asyncio.get_running_loop()
    asked, free, opened = Asked(), list[_Connection](), set[_Connection]()
    again: list[tuple[bytes, float]] = []
    began = time.perf_counter()
    while not until(now := time.perf_counter() - began):
        due = int(now * rate)
        while again or asked.offered < due:
            if not free:
                if len(opened) >= connections:
                    break
                try:
                    await loop.create_connection(
                        lambda: _Connection(asked, free, opened, again), "127.0.0.1", port
                    )
                except OSError:
                    asked.broken += 1
                    if again:
                        again.pop()
                    else:
                        asked.offered += 1
                    continue
            if again:
                free.pop().ask(*again.pop())
                continue
            free.pop().ask(request(), began + asked.offered / rate)
            asked.offered += 1
        await asyncio.sleep(0.0005)
    asked.broken += len(again)
    asked.seconds = time.perf_counter() - began
    patience = time.perf_counter() + 10.0
    while any(one.is_busy for one in opened) and time.perf_counter() < patience:
        await asyncio.sleep(0.01)
    for one in [*opened]:
        one.close()
    return asked


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
