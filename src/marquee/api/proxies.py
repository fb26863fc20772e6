"""What proxies in front say of a request: who sent it, over what, and below which path the API lies there."""

import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AnyScope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

__all__ = ["BehindProxies", "BelowPrefix"]

PREFIX: Final = re.compile(rb"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){1,4}")
"""A path and nothing else: `//host` would lead elsewhere."""


class BehindProxies(ProxyHeadersMiddleware):
    """
    ASGI middleware that believes a proxy, if it is one of ours.

    `X-Forwarded-For` and `-Proto` become the client and the scheme, as in uvicorn. `X-Forwarded-Prefix` names
    what the proxy has taken off the path and becomes `root_path`, with which the pages of `/docs` and the
    `servers` of the OpenAPI document name addresses that work from outside. One API can so be asked
    directly and through proxies, each with a prefix of its own.
    """

    async def __call__(
        self, scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable"
    ) -> None:
        """Handle one connection."""
        if scope["type"] == "http":
            client = scope["client"]
            if client is not None and client[0] in self.trusted_hosts:
                for name, value in scope["headers"]:
                    if name == b"x-forwarded-prefix" and PREFIX.fullmatch(value):
                        scope["root_path"] = value.decode()
        await super().__call__(scope, receive, send)


class BelowPrefix:
    """
    ASGI middleware for a framework that wants the whole path.

    By the specification of ASGI a path contains its `root_path`. Whatever decides by paths before the
    framework does (who may, what is hot) knows the path without it, whichever way a request has come.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: AnyScope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one connection."""
        prefix = scope.get("root_path")
        if prefix:
            scope["path"] = prefix + scope["path"]
        return self._app(scope, receive, send)
