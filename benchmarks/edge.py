"""
What the outermost layer of the API adds to each request.

Calls the layer around an application that does nothing, and that application alone, in one event loop and
without a network: for the person at the machine, a visitor with a cookie, and a service with a key. The log
goes to a file as JSON, as in production.

    python benchmarks/edge.py
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from marquee.api.access import Access
from marquee.api.edge import Edge
from marquee.api.limits import Overload
from marquee.config import Settings
from marquee.store.repositories import keys
from marquee.store.repositories.keys import ValidKey
from marquee.telemetry import configure_logs

CALLS = 20_000
ROUNDS = 5
TARGET_MICROSECONDS = 20
PATH = "/v1/users/4503599627370497/recommendations"
BODY = b'{"user_id": 1, "content_id": 27205, "watch_seconds": 5400, "rating": 8.5, "popularity": 83.9}'
KEY = b"mq_0123456789_" + b"x" * 43


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads the body and answers."""
    if scope["method"] == "POST":
        await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


def main() -> None:
    """Measure and print."""
    unlimited = {"rate_per_key": "1000000000/second", "rate_per_address": "1000000000/second"}
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        settings = Settings(home=Path(folder), api=unlimited)
        configure_logs(settings.log, stream=log)
        open_access, keyed = Access(settings), Access(settings)
        asyncio.run(open_access.keys.refresh(_keys()))
        asyncio.run(keyed.keys.refresh(_keys(ValidKey("0123456789", "service", keys.digest(KEY)))))
        cookie = open_access.cookies.header_for(4503599627370497, secure=False).partition(";")[0].encode()
        callers = {
            "person at the machine": (open_access, "GET", ()),
            "visitor": (keyed, "GET", ((b"cookie", cookie),)),
            "service": (keyed, "GET", ((b"authorization", b"Bearer " + KEY),)),
            "service, with a body": (keyed, "POST", ((b"authorization", b"Bearer " + KEY),)),
        }
        for name, (access, method, headers) in callers.items():
            edge = Edge(nothing, settings=settings, access=access, overload=Overload(256))
            added = asyncio.run(_microseconds(edge, method, headers))
            verdict = "met" if added <= TARGET_MICROSECONDS else "missed"
            print(f"{name:22} {added:6.1f} µs added; at most {TARGET_MICROSECONDS}: {verdict}")


def _keys(*valid: ValidKey) -> Any:
    async def run(_: Any) -> tuple[list[ValidKey], bool]:
        return list(valid), bool(valid)

    return run


async def _microseconds(edge: Any, method: str, headers: tuple[tuple[bytes, bytes], ...]) -> float:
    """The least of some rounds' differences: what else the machine did can only add."""
    rounds = [
        await _timed(edge, method, headers) - await _timed(nothing, method, headers) for _ in range(ROUNDS)
    ]
    return min(rounds)


async def _timed(app: Any, method: str, more: tuple[tuple[bytes, bytes], ...]) -> float:
    body = method == "POST"
    headers = [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"benchmark"), (b"accept", b"*/*"), *more]
    headers += (
        [(b"content-length", b"%d" % len(BODY)), (b"content-type", b"application/json")] if body else []
    )
    scope = {
        "type": "http",
        "method": method,
        "path": "/predict" if body else PATH,
        "headers": headers,
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
        "query_string": b"",
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(_: Any) -> None:
        return

    started = time.process_time()  # other processes may keep this one waiting
    for _ in range(CALLS):
        await app(dict(scope), receive, send)
    return (time.process_time() - started) / CALLS * 1e6


if __name__ == "__main__":
    main()
