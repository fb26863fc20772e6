"""The outermost layer of the API: request ids, the canonical log line, and what no route may leak."""

import re
import time
from typing import Final
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from marquee.api.problems import http_problem, internal_problem
from marquee.telemetry import get_logger

__all__ = ["MAX_BODY_BYTES", "Edge"]

MAX_BODY_BYTES: Final = 1024 * 1024
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""Ids of callers are logged and sent back: anything else is replaced by one of ours."""


class Edge:
    """
    ASGI middleware around everything.

    Takes or makes the request id and returns it, writes one line per request, answers HEAD wherever GET is
    offered, refuses bodies that are too long, and turns what nobody caught into a problem.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        is_head = scope["method"] == "HEAD"
        status = received = 0

        async def receive_in() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise HTTPException(413)
            return message

        async def send_out(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        inner = {**scope, "method": "GET"} if is_head else scope
        log = get_logger()
        try:
            if _announced_length(headers) > MAX_BODY_BYTES:
                refusal = http_problem(413, method=scope["method"], path=scope["path"])
                await refusal(inner, receive, send_out)
            else:
                await self.app(inner, receive_in, send_out)
        except Exception:
            log.exception("api.failed", method=scope["method"], path=scope["path"])
            if status:
                raise  # half an answer is out: the server must break the connection
            await internal_problem(request_id)(inner, receive, send_out)
        finally:
            log.info(
                "api.request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 3),
            )


def _announced_length(headers: Headers) -> int:
    value = headers.get("content-length", "0")
    return int(value) if value.isascii() and value.isdigit() else 0
