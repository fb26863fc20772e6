"""Traces of requests; imported only where they are on."""

from collections.abc import Awaitable, Iterator
from contextlib import closing, contextmanager
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from marquee.api.deps import Services
from marquee.api.edge import NO_ROUTE, Edge, route_of
from marquee.telemetry import note
from marquee.telemetry.traces import Traces

__all__ = ["traced"]

SAID: Final = {"tier", "bundle", "degraded"}
"""What the line of a request says of its answer, and its span too."""


@contextmanager
def traced(edge: Edge, services: Services) -> Iterator[None]:
    """
    Make spans of the requests that pass the edge, and of what they wait for, and export them.

    Raises:
        ConfigError: the settings say nothing that a collector could be reached by.
    """
    with closing(Traces(services.settings.trace, "marquee-api")) as traces:
        edge.app = _Requests(edge.app, traces)
        traces.follow(services, services.users, services.events, services.engine, services.predictions)
        yield


class _Requests:
    """
    ASGI middleware just within the edge: what is refused there costs nobody a trace.

    A span tells no user: it has the template of the path, and neither ids nor a query.
    """

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one connection; what is not traced, which is almost all, costs no coroutine of its own."""
        parent = self._traces.sampled(scope["headers"]) if scope["type"] == "http" else None
        if parent is None:
            return self._app(scope, receive, send)
        return self._traced(parent, scope, receive, send)

    async def _traced(self, parent: Context, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        attributes = {"http.request.method": method, "url.scheme": scope["scheme"]}
        with self._traces.span(method, attributes, parent=parent, kind=SpanKind.SERVER) as span:
            said = note(trace_id=f"{span.get_span_context().trace_id:032x}")
            span.set_attribute("request_id", said.get("request_id", ""))

            async def send_out(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_attribute("error.type", str(status))
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, send_out)
            finally:
                route = route_of(scope)
                if route != NO_ROUTE:
                    span.set_attribute("http.route", route)
                    span.update_name(f"{method} {route}")
                for field in SAID & said.keys():
                    span.set_attribute(f"marquee.{field}", said[field])
