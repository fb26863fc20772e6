"""
A client's connection: what must be decided before there is a request to speak of.

uvicorn has no time-out for a client that is slow to send, sets no limit to headers, and starts a task for
each request, also for those that would be refused: under overload that alone would cost a good part of what
the process can do.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final

import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from marquee.api.edge import SECURITY_HEADERS, new_request_id
from marquee.api.limits import Overload
from marquee.api.problems import BAD_REQUEST, HEAD_TOO_LONG, KINDS, TIMEOUT, Kind, OverloadedError, document
from marquee.telemetry.metrics import SLOW_CLIENTS

__all__ = ["Connection"]

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_URL_BYTES: Final = 65_535
"""Of httptools, which calls a longer one malformed."""
ALWAYS: Final = frozenset({"/livez", "/readyz", "/health", "/metrics"})
"""Whoever watches over the service must not be told that it is busy."""


class Connection(HttpToolsProtocol):
    """
    HTTP/1.1 by uvicorn, with limits.

    Attributes:
        overload: set by the server on a subclass, since uvicorn makes the connections.
    """

    overload: Overload

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.url = b""  # uvicorn sets it when a request begins
        self._sending_since = 0.0  # 0: the client owes nothing
        self._deaf_since = 0.0  # 0: the client takes what it is sent
        self._in_head = False
        self._head_bytes = 0
        self._owes = False  # whether a request has been let in that is not answered yet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._sending_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""
        if self._in_head:  # since an earlier packet
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HEAD_TOO_LONG)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Note when a request began."""
        super().on_message_begin()
        self._sending_since = self.loop.time()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Start to answer."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the client has sent all there is."""
        self._sending_since = 0.0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request."""
        self._settle()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._settle()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Note since when the client takes nothing."""
        self._deaf_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client takes what it is sent."""
        self._deaf_since = 0.0
        super().resume_writing()

    def end_if_slow(self, seconds: float) -> None:
        """End the connection if the client has kept it waiting for longer."""
        latest = self.loop.time() - seconds
        if self.transport.is_closing():
            return
        if 0 < self._deaf_since < latest:
            SLOW_CLIENTS.labels("answer").inc()
            self.transport.abort()
        elif 0 < self._sending_since < latest:
            has_asked: bool = bool(self.cycle)  # uvicorn's types do not tell that there is none at first
            SLOW_CLIENTS.labels("body" if has_asked and not self._in_head else "head").inc()
            if has_asked or self._in_head:
                self._refuse(TIMEOUT)
            else:
                self.transport.close()  # it has not said a word: browsers open some connections in advance

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or what its parser does not take."""
        self._refuse(HEAD_TOO_LONG if len(self.url) > MAX_URL_BYTES else BAD_REQUEST)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        overload = self.overload
        answered = self.server_state.total_requests - overload.shed
        if overload.admits(overload.under_way, answered, self.loop.time()) or cycle.scope["path"] in ALWAYS:
            overload.under_way += 1
            self._owes = True
            super()._start_asgi_task(cycle, app)
            return
        overload.shed += 1
        # With more of its requests queued behind, the client had better begin anew.
        closing = not cycle.keep_alive or bool(self.pipeline)
        cycle.response_started = cycle.response_complete = True
        self.transport.write(_answer(OVERLOADED, closing=closing))
        if closing:
            self.transport.close()
        else:
            cycle.on_response()

    def _settle(self) -> None:
        # Not when the task of the request ends: by then its client may have sent the next.
        if self._owes:
            self.overload.under_way -= 1
            self._owes = False

    def _refuse(self, kind: Kind) -> None:
        """End the connection with an answer, if one can still be given."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            can_answer = not (cycle.response_started or self._in_head)
            cycle.disconnected = True  # its handler is told so, and need not know why
            cycle.message_event.set()
        else:
            can_answer = True
        if can_answer:
            self.transport.write(_answer(_rendered(kind), closing=True))
        self.transport.close()


def _rendered(kind: Kind) -> tuple[bytes, bytes]:
    """Head and body of a refusal, without what differs each time."""
    body = orjson.dumps(document(kind, kind.example, kind.fix))
    status = f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}\r\n"
    retry = "retry-after: 1\r\n" if kind.status == 503 else ""
    head = (
        f"{status}content-type: application/problem+json\r\ncontent-length: {len(body)}\r\n{retry}".encode()
    )
    return head + b"".join(b"%b: %b\r\n" % pair for pair in SECURITY_HEADERS), body


def _answer(rendered: tuple[bytes, bytes], *, closing: bool) -> bytes:
    head, body = rendered
    end = b"connection: close\r\n\r\n" if closing else b"\r\n"
    return b"%bx-request-id: %b\r\n%b%b" % (head, new_request_id().encode(), end, body)


OVERLOADED: Final = _rendered(KINDS[OverloadedError])
