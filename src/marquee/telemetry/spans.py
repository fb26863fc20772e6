"""
What is worth seeing in a trace, marked where it is done.

A mark costs nothing: where traces are on, `traces` wraps what is marked, and else it is not even imported,
nor is OpenTelemetry.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["CURRENT", "MARK", "as_span", "traceparent", "untraced"]

MARK: Final = "__marquee_span__"
CURRENT: Final[ContextVar["Span | None"]] = ContextVar("marquee_span", default=None)
"""The innermost span of what is traced now; None outside of it."""

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


def as_span(name: str) -> Callable[[F], F]:
    """Mark a method whose calls are spans of the requests that are traced."""

    def mark(method: F) -> F:
        setattr(method, MARK, name)
        return method

    return mark


def traceparent() -> str | None:
    """What is traced now, as others take it to go on with: W3C Trace Context; None where nothing is."""
    span = CURRENT.get()
    if span is None:
        return None
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


@contextmanager
def untraced() -> Iterator[None]:
    """Have marked calls within the block make no spans: who asks again and again would fill a trace."""
    token = CURRENT.set(None)
    try:
        yield
    finally:
        CURRENT.reset(token)
