"""
The hot routes, answered before the framework sees them.

FastAPI spends more on a request than a recommendation costs. Its routes stay, for the document and for
whatever is out of the ordinary: a hot handler answers the plain case, and hands the request on, body
included, by raising `PassOn`. So validation and its errors have one home, and both roads call the same code.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from marquee.api.problems import problem_response
from marquee.errors import MarqueeError

if TYPE_CHECKING:
    from marquee.api.deps import Services

__all__ = ["HotCall", "HotRoute", "HotRoutes", "PassOn", "Reply"]

JSON = (b"content-type", b"application/json")


class PassOn(Exception):  # noqa: N818 - not an error: the other road answers
    """The framework shall answer this request."""


class Reply(NamedTuple):
    """An answer: JSON unless its headers say otherwise."""

    body: bytes
    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()


@dataclass(slots=True)
class HotCall:
    """
    A request to a hot route.

    Attributes:
        params: the numbers in the path.
        query: as sent, undecoded.
        body: whole.
    """

    services: "Services"
    scope: Scope
    params: tuple[int, ...]
    query: bytes
    body: bytes

    def header(self, name: bytes) -> bytes:
        """A request header by its lower-case name, empty where it is absent."""
        for key, value in self.scope["headers"]:
            if key == name:
                found: bytes = value
                return found
        return b""


Handler = Callable[[HotCall], Awaitable[Reply]]


class HotRoute(NamedTuple):
    """A method and a path with at most one number in braces: `/v1/users/{user_id}/recommendations`."""

    method: str
    path: str
    handler: Handler


class HotRoutes:
    """ASGI middleware that answers hot routes and leaves everything else to the application."""

    def __init__(self, app: ASGIApp, routes: Sequence[HotRoute]) -> None:
        self.app = app
        self._whole = {(r.method, r.path): r for r in routes if "{" not in r.path}
        self._around = [
            (r.method, r.path.partition("{")[0], r.path.partition("}")[2], r) for r in routes if "{" in r.path
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        found = self._match(scope) if scope["type"] == "http" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        route, params = found
        scope["marquee.route"] = route.path
        body = await _whole_body(receive) if scope["method"] != "GET" else b""
        services: Any = scope["app"].state.services
        try:
            reply = await route.handler(HotCall(services, scope, params, scope["query_string"], body))
        except PassOn:
            await self.app(scope, _replayed(body, receive), send)
            return
        except MarqueeError as error:
            await problem_response(error)(scope, receive, send)
            return
        headers = [JSON, (b"content-length", b"%d" % len(reply.body)), *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    def _match(self, scope: Scope) -> tuple[HotRoute, tuple[int, ...]] | None:
        method, path = scope["method"], scope["path"]
        whole = self._whole.get((method, path))
        if whole is not None:
            return whole, ()
        for wanted, before, after, around in self._around:
            if method == wanted and path.startswith(before) and path.endswith(after):
                number = path[len(before) : len(path) - len(after)]
                # Longer numbers than a 64-bit integer may hold are for the framework to refuse.
                if number.isascii() and number.isdigit() and len(number) <= 18:
                    return around, (int(number),)
        return None


async def _whole_body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What gives the body once more, and then what else the client sends."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
