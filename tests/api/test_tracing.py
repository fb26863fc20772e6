"""Traces of requests to the real application, as a collector gets them."""

import asyncio
import subprocess
import sys

import pytest

from marquee.config import TraceSettings

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
VIEWING = {
    "user_id": 4242424242,
    "content_id": 27205,
    "watch_seconds": 5400,
    "rating": 8.5,
    "popularity": 9.0,
}
SERVER, ERROR = 2, 2
OFF = """
import asyncio, sys
import marquee.pipelines.run, marquee.pipelines.worker
assert not any(name.startswith("opentelemetry") for name in sys.modules)
from marquee.api.app import create_app  # FastAPI loads the interface of OpenTelemetry, but no more
from marquee.config import Settings

async def start_and_stop():
    app = create_app(Settings(home=sys.argv[1], database={"url": sys.argv[2]}))
    async with app.router.lifespan_context(app):
        pass

asyncio.run(start_and_stop())
ours = ("opentelemetry.sdk", "opentelemetry.exporter", "marquee.telemetry.traces", "marquee.api.tracing")
found = [name for name in sys.modules if name.startswith(ours)]
assert not found, found
"""


@pytest.fixture(autouse=True)
def _time_to_close(monkeypatch):
    monkeypatch.setattr("marquee.telemetry.traces.CLOSE_SECONDS", 30.0)


@pytest.fixture
def settings(settings, collector):
    """Settings that trace who asks for it, and nobody else."""
    return settings.model_copy(update={"trace": TraceSettings(url=collector.url, sample=0)})


def line_of(logs, path):
    (line,) = [line for line in logs() if line["event"] == "api.request" and line["path"] == path]
    return line


def test_nothing_of_traces_is_loaded_where_they_are_off(database_url, tmp_path):
    subprocess.run([sys.executable, "-c", OFF, str(tmp_path), database_url], check=True)


async def test_a_traced_answer_is_one_trace_with_what_it_waited_for(
    settings, collector, deployed, running, json_logs
):
    async with running(settings) as (client, _):
        response = await client.post("/predict", json=VIEWING, headers={**SAMPLED, "X-Request-ID": "mine"})
        assert response.status_code == 200
    spans = {span["name"]: span for span in collector.spans}
    server = spans["POST /predict"]
    line = line_of(json_logs, "/predict")
    assert (server["kind"], server["parent_id"], server["service"]) == (SERVER, CALLER, "marquee-api")
    assert server["attributes"] == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "request_id": "mine",
        "marquee.bundle": line["bundle"],
    }
    assert line["trace_id"] == TRACE
    assert {span["trace_id"] for span in collector.spans} == {TRACE}
    assert spans["predictor.batch"]["parent_id"] == server["span_id"]
    assert spans["users.read"]["parent_id"] == spans["predictor.batch"]["span_id"]


async def test_spans_name_routes_and_no_user_query_or_key(settings, collector, deployed, running):
    paths = {
        "/v1/users/4242424242/recommendations?k=7&planted=secret": "GET /v1/users/{user_id}/recommendations",
        "/v1/items/27205?planted=secret": "GET /v1/items/{item_id}",
        "/nowhere/planted-secret": "GET",
    }
    async with running(settings) as (client, _):
        for path in paths:
            await client.get(path, headers={**SAMPLED, "X-Secret": "planted"})
        event = {"user_id": 4242424242, "item_id": 27205, "event": "click"}
        assert (await client.post("/v1/events", json=event, headers=SAMPLED)).status_code < 300
    names = {span["name"] for span in collector.spans}
    assert names >= {*paths.values(), "POST /v1/events", "users.read", "engine.batch", "events.commit"}
    for span in collector.spans:
        for secret in ("4242424242", "planted", "secret"):
            assert secret not in span["text"]


async def test_a_request_that_breaks_is_an_error_in_its_trace(
    settings, collector, deployed, running, monkeypatch
):
    async with running(settings) as (client, app):
        monkeypatch.setattr(app.state.services.slots, "names", None)
        assert (await client.get("/health", headers=SAMPLED)).status_code == 500
    (span,) = collector.spans
    assert (span["name"], span["status"]) == ("GET /health", ERROR)
    assert span["attributes"]["error.type"] == "TypeError"


async def test_neither_an_unsampled_parent_nor_a_refused_caller_makes_a_trace(
    settings, collector, deployed, running, json_logs
):
    async with running(settings) as (client, _):
        assert (await client.post("/predict", json=VIEWING, headers=UNSAMPLED)).status_code == 200
        assert (await client.get("/health")).status_code == 200
        wrong = {**SAMPLED, "Authorization": "Bearer mq_0123456789_wrong"}
        assert (await client.get("/health", headers=wrong)).status_code == 401
    assert not collector.spans
    assert "trace_id" not in line_of(json_logs, "/predict")


async def test_answers_go_on_without_the_collector(settings, collector, deployed, running, json_logs):
    collector.server_close()
    async with running(settings) as (client, _):
        answers = [client.post("/predict", json=VIEWING, headers=SAMPLED) for _ in range(20)]
        assert {answer.status_code for answer in await asyncio.gather(*answers)} == {200}
    (warning,) = [line for line in json_logs() if line["event"] == "traces.not_exported"]
    assert warning["level"] == "warning"


async def test_a_run_goes_on_with_the_trace_of_the_request_that_asked_for_it(
    settings, collector, database, running, worker
):
    async with running(settings) as (client, _):
        answer = await client.post("/run/pipeline?wait=false", headers=SAMPLED)
        run_id = answer.json()["run_id"]
        await worker()
        async with asyncio.timeout(60):
            while "run pipeline" not in {span["name"] for span in collector.spans}:
                await asyncio.sleep(0.05)
    named = {span["name"]: span for span in collector.spans if span["service"] == "marquee-worker"}
    whole = named["run pipeline"]
    assert (whole["trace_id"], whole["attributes"]) == (TRACE, {"run_id": run_id, "pipeline": "pipeline"})
    assert {name for name, span in named.items() if span["parent_id"] == whole["span_id"]} == {
        "run prepare",
        "run train",
        "run promote",
        "run infer",
    }
