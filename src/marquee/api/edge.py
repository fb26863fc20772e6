"""
The outermost layer of the API: everything that is the same for every request.

It is on the way of each request, hot ones included, so what it does for all of them costs microseconds: it
looks things up in dictionaries, and whatever takes longer is left to those that are refused.
"""

import ipaddress
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from random import getrandbits
from typing import Final

from prometheus_client import Counter, Histogram
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from marquee.api.access import Access, Caller
from marquee.api.limits import MAX_BODY_BYTES, Overload, RateLimits, flaw_of_json
from marquee.api.problems import (
    InvalidRequestError,
    RateLimitedError,
    UnauthorizedError,
    http_problem,
    internal_problem,
    problem_response,
)
from marquee.config import Settings
from marquee.telemetry import begin_request, get_logger, log_request, metrics

__all__ = ["NO_ROUTE", "Edge", "new_request_id", "route_of"]

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""Ids of callers are logged and sent back: anything else is replaced by one of ours."""
UUID_TEXT: Final = re.compile(rb"[0-9A-Fa-f]{8}(?:(-?)[0-9A-Fa-f]{4}){3}\1[0-9A-Fa-f]{12}")
SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
)
EXPOSED: Final = ("X-Request-ID", "X-Marquee-Degraded", "Location", "Retry-After")
WAITING: Final = "/run/"
"""Requests below this path wait for a pipeline run, for minutes, and cost nothing meanwhile."""
NO_ROUTE: Final = "other"
CLIENT_GONE: Final = 499
"""In logs and metrics: the client left before it had sent its request."""


class Edge:
    """
    ASGI middleware around everything.

    Takes or makes the request id and returns it; finds out who calls and puts that `Caller` into
    `scope["marquee"]`; refuses what may not be, by access, rate or size; answers HEAD wherever GET is
    offered; turns what nobody caught into a problem; counts the request and writes its one line.

    Args:
        overload: told which requests only wait.

    Raises:
        ConfigError: a rate in the settings cannot be read.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, access: Access, overload: Overload) -> None:
        self.app = app
        self._access = access
        self._overload = overload
        self._rates = RateLimits(settings.api.rate_per_key, settings.api.rate_per_address)
        self._meter = _Meter()
        origins = settings.api.cors_origins
        self._cors = _cors(origins) if origins else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        own_id = given.decode() if UUID_TEXT.fullmatch(given) else new_request_id()
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else own_id
        id_header = (b"x-request-id", request_id.encode())
        line = begin_request(request_id=request_id)
        method, path = scope["method"], scope["path"]
        is_head = method == "HEAD"
        inner = {**scope, "method": "GET"} if is_head else scope
        found = self._access.identify(scope, headers)
        role, user_id, key_id = found or ("anonymous", None, None)
        caller = inner["marquee"] = Caller(role, user_id, key_id, own_id)
        status = 0

        async def send_out(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), id_header, *SECURITY_HEADERS]
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        waiting = path.startswith(WAITING)
        self._overload.waiting += waiting
        try:
            target: ASGIApp | None = self._refused(inner, headers, caller, found is not None)
            if target is None and (b"content-length" in headers or b"transfer-encoding" in headers):
                body = await _whole_body(receive)
                if body is None:
                    status = CLIENT_GONE
                    return
                target = _flaw(inner, body)
                receive = _Replay(body, receive)
            if self._cors is None:
                await (target or self.app)(inner, receive, send_out)
            else:
                inner["marquee.target"] = target or self.app
                await self._cors(inner, receive, send_out)
        except Exception:
            get_logger().exception("api.failed", method=method, path=path)
            metrics.UNHANDLED_ERRORS.labels(route_of(inner)).inc()
            if status:
                raise  # half an answer is out: the server must break the connection
            await internal_problem(request_id)(inner, receive, send_out)
        finally:
            self._overload.waiting -= waiting
            seconds = time.perf_counter() - started
            self._meter.count(method, route_of(inner), line.get("tier", ""), status, seconds)
            line["method"] = method
            line["path"] = path
            line["status"] = status
            line["duration_ms"] = round(seconds * 1000, 3)
            line["role"] = role
            if key_id is not None:
                line["key_id"] = key_id
            if request_id != own_id:
                line["answer_id"] = own_id
            log_request("api.request", line)

    def _refused(
        self, scope: Scope, headers: Mapping[bytes, bytes], caller: Caller, key_is_valid: bool
    ) -> Response | None:
        """The refusal of a request whose head says enough to refuse it."""
        wait = self._seconds_to_wait(scope, caller)
        if wait is not None:
            return problem_response(wait)
        method, path = scope["method"], scope["path"]
        if not key_is_valid:
            metrics.ACCESS_REFUSED.labels(401).inc()
            return problem_response(
                UnauthorizedError(
                    "The API key is not valid: mistyped, or revoked.", fix="`marquee keys create` makes one."
                )
            )
        if not self._access.allows(caller, method, path):
            refusal = problem_response(self._access.refusal(scope, headers, caller.role))
            metrics.ACCESS_REFUSED.labels(refusal.status_code).inc()
            return refusal
        length = headers.get(b"content-length", b"0")
        if len(length) > 7 or (length.isdigit() and int(length) > MAX_BODY_BYTES):
            return http_problem(413, method=method, path=path)
        return None

    def _seconds_to_wait(self, scope: Scope, caller: Caller) -> RateLimitedError | None:
        """The error of one request too many; whoever sits at the machine, yet without a key, asks freely."""
        if caller.key_id is not None:
            seconds = self._rates.seconds_to_wait("key", caller.key_id)
            if seconds:
                return _too_many("key", seconds)
        elif caller.role != "operator":
            client = scope.get("client")
            seconds = self._rates.seconds_to_wait("address", _network(client[0]) if client else "")
            if seconds:
                return _too_many("address", seconds)
            if caller.user_id is not None:
                seconds = self._rates.seconds_to_wait("visitor", str(caller.user_id))
                if seconds:
                    return _too_many("visitor", seconds)
        return None


class _Meter:
    """Counts requests; the metrics of each route are looked up once."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._seconds: dict[tuple[str, str], Histogram] = {}

    def count(self, method: str, route: str, tier: str, status: int, seconds: float) -> None:
        """Count an answer, or its absence."""
        counter = self._counters.get((method, route, status))
        if counter is None:
            counter = metrics.REQUESTS.labels(method, route, status)
            self._counters[method, route, status] = counter
        counter.inc()
        histogram = self._seconds.get((route, tier))
        if histogram is None:
            histogram = self._seconds[route, tier] = metrics.REQUEST_SECONDS.labels(route, tier)
        histogram.observe(seconds)


class _Replay:
    """Gives the body, and then what else the client sends."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            return await self._receive()
        return {"type": "http.request", "body": body, "more_body": False}


def new_request_id() -> str:
    """A UUID of version 7: the newest sort last, so that indexes of them grow at one end."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | 7 << 76 | getrandbits(12) << 64 | 2 << 62 | getrandbits(62)
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


async def _whole_body(receive: Receive) -> bytes | None:
    """The body, or more of it than is allowed; None when the client went away."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False) and len(body) <= MAX_BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
    return None if message["type"] == "http.disconnect" else body


def _flaw(scope: Scope, body: bytes) -> Response | None:
    """The refusal of a body by its size or shape."""
    if len(body) > MAX_BODY_BYTES:
        return http_problem(413, method=scope["method"], path=scope["path"])
    flaw = flaw_of_json(body)
    if flaw is None:
        return None
    return problem_response(
        InvalidRequestError(f"The body {flaw}.", field="body", fix="Send less at a time.")
    )


def _cors(origins: tuple[str, ...]) -> CORSMiddleware:
    """Answers preflights, and lets the pages of some sites read the answers; refusals too."""

    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        target: ASGIApp = scope.pop("marquee.target")
        await target(scope, receive, send)

    return CORSMiddleware(
        forward,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "X-Request-ID"),
        allow_credentials="*" not in origins,
        expose_headers=EXPOSED,
    )


def _too_many(scope: str, seconds: int) -> RateLimitedError:
    metrics.RATE_LIMITED.labels(scope).inc()
    return RateLimitedError(
        f"This {scope} has made more requests than it may.",
        seconds=seconds,
        fix=f"Wait {seconds} s." if scope == "key" else f"Wait {seconds} s, or use an API key.",
    )


def route_of(scope: Scope) -> str:
    """The template of the path, so that metrics do not grow with the ids in paths."""
    hot: str | None = scope.get("marquee.route")
    if hot is not None:
        return hot
    return getattr(scope.get("route"), "path", NO_ROUTE)


@lru_cache(4096)
def _network(address: str) -> str:
    """What counts as one address: of IPv6 the network that a household gets."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
