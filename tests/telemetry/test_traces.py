import asyncio
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import structlog

from marquee.config import Settings, TraceSettings
from marquee.errors import ConfigError
from marquee.telemetry.spans import as_span, traceparent
from marquee.telemetry.traces import Traces

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"
NO_PARENTS = [
    "",
    "nonsense",
    f"ff-{TRACE}-{CALLER}-01",
    f"00-{'0' * 32}-{CALLER}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{CALLER}-01",
]


@pytest.fixture(autouse=True)
def _time_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marquee.telemetry.traces.CLOSE_SECONDS", 30.0)


@pytest.fixture
def capture_events() -> Iterator[list[dict[str, Any]]]:
    with structlog.testing.capture_logs() as events:
        yield events


def header(value: str) -> list[tuple[bytes, bytes]]:
    return [(b"accept", b"*/*"), (b"traceparent", value.encode())]


def test_spans_are_exported_with_their_parents_at_the_end(collector):
    with closing(Traces(TraceSettings(url=collector.url), "test")) as traces:
        with traces.span("outer", {"a": "b"}) as outer, traces.span("inner"):
            assert traceparent().startswith(f"00-{outer.get_span_context().trace_id:032x}-")
        assert traceparent() is None
    inner, outer = sorted(collector.spans, key=lambda span: span["name"])
    assert (inner["trace_id"], inner["parent_id"]) == (outer["trace_id"], outer["span_id"])
    assert (outer["parent_id"], outer["attributes"], outer["service"]) == ("", {"a": "b"}, "test")


def test_an_error_marks_its_span_by_type_and_not_by_text(collector):
    with (
        closing(Traces(TraceSettings(url=collector.url), "test")) as traces,
        pytest.raises(KeyError),
        traces.span("broken"),
    ):
        raise KeyError("planted secret")
    (span,) = collector.spans
    assert (span["status"], span["attributes"]) == (2, {"error.type": "KeyError"})
    assert "planted secret" not in span["text"]


@pytest.mark.parametrize("sample", [0, 1])
def test_the_caller_decides_for_its_own_trace(collector, sample):
    with closing(Traces(TraceSettings(url=collector.url, sample=sample), "test")) as traces:
        assert traces.sampled(header(UNSAMPLED)) is None
        with traces.span("asked for", parent=traces.sampled(header(SAMPLED))):
            pass
        with traces.span(
            "from a later version", parent=traces.sampled(header(f"01-{TRACE}-{CALLER}-03-more"))
        ):
            pass
    assert {(span["trace_id"], span["parent_id"]) for span in collector.spans} == {(TRACE, CALLER)}


@pytest.mark.parametrize("given", NO_PARENTS)
def test_a_parent_that_is_none_leaves_it_to_the_share(collector, given):
    with closing(Traces(TraceSettings(url=collector.url, sample=0), "test")) as traces:
        assert traces.sampled(header(given)) is None
    with closing(Traces(TraceSettings(url=collector.url, sample=1), "test")) as traces:
        parent = traces.sampled(header(given))
        with traces.span("root", parent=parent):
            pass
    (span,) = collector.spans
    assert span["parent_id"] == ""
    assert span["trace_id"] != TRACE


def test_a_share_of_requests_is_taken(collector):
    with closing(Traces(TraceSettings(url=collector.url, sample=0.1), "test")) as traces:
        taken = sum(traces.sampled([]) is not None for _ in range(20_000))
    assert 1_700 < taken < 2_300  # seven standard deviations


async def test_marked_calls_are_spans_only_within_what_is_traced(collector):
    class Part:
        @as_span("part.work")
        async def work(self, n: int) -> int:
            return n + 1

    async def behind() -> int:
        return await part.work(4)

    with closing(Traces(TraceSettings(url=collector.url), "test")) as traces:
        part, other = Part(), Part()
        traces.follow(part)
        assert await part.work(1) == 2
        with traces.span("request"):
            assert await part.work(2) == 3
            assert await other.work(3) == 4
            later = asyncio.create_task(behind())  # begins when the span has ended
        assert await later == 5
    assert sorted(span["name"] for span in collector.spans) == ["part.work", "request"]


def test_an_absent_collector_costs_one_warning_for_all_batches(collector, capture_events):
    url = collector.url
    collector.server_close()
    with closing(Traces(TraceSettings(url=url), "test")) as traces:
        for _ in range(500):  # several batches
            with traces.span("lost"):
                pass
    (event,) = capture_events
    assert (event["event"], event["log_level"], event["collector"]) == (
        "traces.not_exported",
        "warning",
        "127.0.0.1",
    )


def test_a_collector_that_refuses_is_named_without_the_secrets_of_its_address(collector, capture_events):
    url = collector.url.replace("//", "//name:planted-secret@") + "/elsewhere"
    with closing(Traces(TraceSettings(url=url), "test")) as traces:
        for _ in range(500):
            with traces.span("refused"):
                pass
    assert collector.requests == 1  # what failed is left alone for a while
    (event,) = capture_events
    assert event["error"] == "HTTP 404"
    assert "planted-secret" not in str(event)


def test_headers_come_from_their_file_and_not_from_the_environment(collector, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-other=somebody-elses-key")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "other")
    (tmp_path / "headers").write_text("Authorization: Bearer abc=\n\nX-Scope: a b\n")
    settings = TraceSettings(url=collector.url + "/", headers_file=tmp_path / "headers")
    with closing(Traces(settings, "test")) as traces, traces.span("seen"):
        pass
    (headers,) = collector.headers
    assert (headers["authorization"], headers["x-scope"]) == ("Bearer abc=", "a b")
    assert "x-other" not in headers
    assert collector.spans[0]["service"] == "test"


@pytest.mark.parametrize("content", ["no header", "a b: c", "Name:", None])
def test_a_file_of_headers_that_cannot_be_read_is_named(tmp_path, content):
    file = tmp_path / "headers"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match="MARQUEE_TRACE__HEADERS_FILE") as caught:
        Traces(TraceSettings(url="http://127.0.0.1:1", headers_file=file), "test")
    assert caught.value.fix


def test_an_address_that_is_none_is_named():
    with pytest.raises(ConfigError, match="MARQUEE_TRACE__URL"):
        Traces(TraceSettings(url="http://collector:port"), "test")


def test_traces_without_their_extra_are_refused_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [])  # where packages are looked for
    with pytest.raises(ConfigError, match="not installed") as caught:
        Settings(home=tmp_path, trace={"url": "http://127.0.0.1:4318"})
    assert "marquee-recsys[tracing]" in caught.value.fix
    assert "make setup" in caught.value.fix
