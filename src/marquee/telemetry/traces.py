"""
Traces by OpenTelemetry; imported only where they are on.

The provider is our own and never the global one: MLflow has spans, too, and those are its business. Nor is
the environment read: OTLP's own exporter would send whatever `OTEL_EXPORTER_OTLP_HEADERS` holds, which may
be the key of somebody else's collector.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import random
from typing import Any, Final

import httpx
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from marquee import __version__
from marquee.config import TraceSettings
from marquee.errors import ConfigError
from marquee.telemetry.logs import get_logger
from marquee.telemetry.spans import CURRENT, MARK

__all__ = ["Traces"]

EXPORT_SECONDS: Final = 5.0
"""How often spans are sent, and how long the collector may take."""
CLOSE_SECONDS: Final = 2.0
"""How long the end of a process waits for its last spans."""
MOST_WAITING: Final = 2048
MOST_TOGETHER: Final = 64
"""Encoding spans holds the interpreter: these take it for 2 ms, so that no request waits for long."""
PAUSE_SECONDS: Final = 10.0
"""How long a collector that failed is left alone; spans of that time are given up."""
MOST_ATTRIBUTES: Final = 32
LONGEST_ATTRIBUTE: Final = 256
PARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]([0-9a-f])(?:-.*)?"
)
"""`traceparent` of W3C Trace Context; the last bit of its flags says whether the caller's trace is kept."""
HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*([\t -~]*[!-~])[ \t]*")

Headers = Iterable[tuple[bytes, bytes]]


class Traces:
    """
    Makes spans and exports them in the background, to be closed at the end.

    An absent collector costs the spans and a warning, and nothing else: what is not taken is given up.

    Args:
        service: what the spans are of.

    Raises:
        ConfigError: the collector's address is none, or its headers cannot be read.
    """

    def __init__(self, settings: TraceSettings, service: str) -> None:
        self._sample = settings.sample
        self._exporter = _Exporter(settings)
        nobody = NoOpMeterProvider()
        resource = {
            "service.name": service,
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        }
        # All that is not said here, OpenTelemetry would look for in the environment.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # what is not to be kept never becomes a span
            resource=Resource(resource),
            shutdown_on_exit=False,
            span_limits=SpanLimits(*[MOST_ATTRIBUTES] * 6, *[LONGEST_ATTRIBUTE] * 2),  # numbers, lengths
            meter_provider=nobody,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=MOST_WAITING,
                schedule_delay_millis=EXPORT_SECONDS * 1000,
                max_export_batch_size=MOST_TOGETHER,
                export_timeout_millis=EXPORT_SECONDS * 1000,
                meter_provider=nobody,
            )
        )
        self._tracer = self._provider.get_tracer("marquee")

    def sampled(self, headers: Headers) -> Context | None:
        """
        The parent of a request's span, or None where the request is not traced.

        Who calls decides for its own traces; of all other requests a share is taken.
        """
        for name, value in headers:
            if name == b"traceparent":
                given = PARENT.fullmatch(value)
                if given is None:
                    break
                return _continued(headers) if int(given[1], 16) & 1 else None
        return Context() if random() < self._sample else None  # noqa: S311

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Mapping[str, str] | None = None,
        *,
        parent: Context | str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Iterator[Span]:
        """
        Trace a block; of what it raises the span holds the type only, since the text may be personal.

        Args:
            parent: what it is part of, as `sampled` or a `traceparent` says it; an empty one begins a new
                trace. Default: what is traced now.
        """
        around = CURRENT.get()
        if parent is None:
            parent = Context() if around is None else set_span_in_context(around, Context())
        elif isinstance(parent, str):
            parent = _continued([(b"traceparent", parent.encode())])
        span = self._tracer.start_span(name, parent, kind, attributes)
        token = CURRENT.set(span)
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            CURRENT.reset(token)
            span.end()

    def follow(self, *parts: object) -> None:
        """Have the marked methods of these objects make spans within the requests that are traced."""
        for part in parts:
            for method in dir(type(part)):
                name = getattr(getattr(type(part), method), MARK, None)
                if name is not None:
                    setattr(part, method, self._followed(name, getattr(part, method)))

    def close(self) -> None:
        """Export what is left, within two seconds, and stop."""
        self._exporter.end_by(time.monotonic() + CLOSE_SECONDS)
        # In a thread, for it waits for half a minute if it must.
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _followed(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def traced(*args: Any, **kwargs: Any) -> Any:
            with self.span(name):
                return await call(*args, **kwargs)

        def maybe_traced(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            span = CURRENT.get()
            # What goes on behind a request when it has been answered is no longer part of it.
            if span is None or not span.is_recording():
                return call(*args, **kwargs)
            return traced(*args, **kwargs)

        return maybe_traced


class _Exporter(SpanExporter):
    """Posts spans to the collector, once each."""

    def __init__(self, settings: TraceSettings) -> None:
        assert settings.url is not None
        try:
            self._url = httpx.URL(settings.url.rstrip("/") + "/v1/traces")
        except httpx.InvalidURL as error:
            raise ConfigError(
                f"MARQUEE_TRACE__URL is no address: {error}.", fix="Set it like http://127.0.0.1:4318."
            ) from None
        headers = _headers(settings.headers_file) if settings.headers_file is not None else {}
        self._client = httpx.Client(headers={**headers, "content-type": "application/x-protobuf"})
        self._deadline = float("inf")
        self._pause_ends = 0.0
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Called by the processor's thread."""
        now = time.monotonic()
        seconds = min(EXPORT_SECONDS, self._deadline - now)
        if seconds <= 0 or now < self._pause_ends:
            return SpanExportResult.FAILURE
        body = encode_spans(spans).SerializeToString()
        try:
            answer = self._client.post(self._url, content=body, timeout=seconds)
            error = None if answer.is_success else f"HTTP {answer.status_code}"
        except httpx.HTTPError as failure:
            error = f"{type(failure).__name__}: {failure}"
        was_failing, self._is_failing = self._is_failing, error is not None
        if error is not None:
            self._pause_ends = time.monotonic() + PAUSE_SECONDS
            if not was_failing:
                get_logger().warning("traces.not_exported", collector=self._url.host, error=error)
            return SpanExportResult.FAILURE
        if was_failing:
            get_logger().info("traces.exported_again", collector=self._url.host)
        return SpanExportResult.SUCCESS

    def end_by(self, deadline: float) -> None:
        """Let no export begin after that, nor take longer."""
        self._deadline = deadline

    def shutdown(self) -> None:
        """Called by the processor when all is exported."""
        self._client.close()


def _continued(headers: Headers) -> Context:
    carrier: dict[str, str] = {}
    for name, value in headers:
        if name in (b"traceparent", b"tracestate"):
            carrier[name.decode()] = value.decode("latin-1")
    return TraceContextTextMapPropagator().extract(carrier, Context())


def _headers(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"MARQUEE_TRACE__HEADERS_FILE {path} cannot be read: {error}.", fix="Mend or unset it."
        ) from None
    found = [HEADER.fullmatch(line) for line in lines if line.strip()]
    if not all(found):
        raise ConfigError(
            f"MARQUEE_TRACE__HEADERS_FILE {path} holds a line that is no header.",
            fix="Write `Name: value`, one a line.",
        )
    return {header[1]: header[2] for header in found if header}
