import asyncio

import httpx
import psycopg
import pytest

from marquee.api.ops import ops_app
from marquee.store.embedded import EmbeddedServer

pytestmark = pytest.mark.integration


async def test_live_process_says_so(client):
    assert (await client.get("/livez")).json() == {"status": "alive"}


async def test_ready_means_that_a_model_has_recommended(deployed, client):
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["lacks"]) == ("ready", [])
    assert body["bundle"] == f"mlp/{deployed.version}"
    assert body["inference_ms"] > 0


async def test_films_without_a_model_are_enough_to_be_degraded(catalogue, client):
    body = (await client.get("/readyz")).json()
    assert (body["status"], body["lacks"]) == ("degraded", ["predictor"])
    assert body["bundle"] == "popularity"


async def test_nothing_to_recommend_is_not_ready(client):
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/no-model"
    assert answer.headers["retry-after"]


async def test_lost_database_is_named_and_no_reason_to_be_taken_out(
    deployed, client, services, database_url, postgres: EmbeddedServer
):
    name = database_url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        await services.probe()
        answer = await client.get("/readyz")
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["lacks"]) == ("degraded", ["database"])


async def test_model_that_breaks_is_named_and_another_answers(
    catalogue, deploy, trained, client, services, monkeypatch
):
    deploy(trained.mlp, "predictor")
    deploy(trained.popularity, "champion")
    await services.probe()
    champion = services.slots.champion()

    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(champion.pipeline, "recommend", broken)
    body = (await client.get("/readyz")).json()
    assert body["status"] == "degraded"
    assert champion.name in body["lacks"][0]
    assert body["bundle"].startswith("mlp/")
    monkeypatch.setattr(services.slots.get("predictor").pipeline, "recommend", broken)
    assert (await client.get("/readyz")).status_code == 503


async def test_metrics_are_there_for_prometheus(deployed, client):
    await client.get("/health")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    line = 'marquee_http_requests_total{method="GET",route="/health",status="200"}'
    assert any(found.startswith(line) for found in answer.text.splitlines())
    for name in ("marquee_http_request_seconds_bucket", "process_resident_memory_bytes"):
        assert name in answer.text
    assert "marquee_runs_waiting" not in answer.text  # the worker knows


async def test_what_waits_and_what_serves_is_measured_once_a_second(deployed, client, services):
    expected = {
        "marquee_database_up 1.0",
        "marquee_database_pool_connections 0.0",
        "marquee_events_waiting_requests 0.0",
        "marquee_journal_waiting_rows 0.0",
        'marquee_engine_waiting_requests{stage="recommend"} 0.0',
        f'marquee_models_bundle_info{{bundle="mlp/{deployed.version}",slot="predictor"}} 1.0',
    }
    told: list[str] = []
    for _ in range(100):  # a task of the application may have had a connection just then
        await services.probe()
        told = (await client.get("/metrics")).text.splitlines()
        if expected <= set(told):
            break
        await asyncio.sleep(0.05)
    assert expected - set(told) == set()
    assert any(
        line.startswith('marquee_models_bundle_created_timestamp_seconds{slot="predictor"} 1.')
        for line in told
    )
    while services.database_is_up:  # until no probe finds it again in between
        services.lost("a test says so")
        services._measure()
        told = (await client.get("/metrics")).text.splitlines()
    assert "marquee_database_up 0.0" in told


async def test_port_of_their_own_answers_the_same_and_nothing_else(deployed, services):
    app = ops_app(services)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ops") as client:
        assert (await client.get("/livez")).json() == {"status": "alive"}
        assert (await client.get("/readyz")).json()["status"] == "ready"
        assert "marquee_http_requests" in (await client.get("/metrics")).text
        assert (await client.get("/health")).status_code == 404
        assert (await client.post("/livez")).status_code == 405
