"""How the service is, for operators."""

import secrets

import pytest

from marquee.config import Settings

pytestmark = pytest.mark.integration


def parts_of(overview):
    return {part["name"]: part["status"] for part in overview["parts"]}


async def test_overview_shows_parts_models_and_traffic(deployed, worker, client, services):
    await worker()
    await client.post("/run/prepare-data")  # there is a worker when this is done
    await client.get("/v1/users/1/recommendations", params={"k": 2})
    await services.journal.flush()
    overview = (await client.get("/v1/overview")).json()
    parts = parts_of(overview)
    assert parts.pop("site") in ("ok", "down")
    assert parts == dict.fromkeys(("database", "worker", "objects", "predictor", "champion"), "ok")
    assert (overview["status"], overview["lacks"]) == ("ok", [])
    assert overview["champion"]["bundle"].startswith("mlp/")
    assert overview["champion"]["age_seconds"] >= 0
    assert len(overview["requests_per_minute"]) == len(overview["events_per_minute"]) == 60
    assert sum(minute["count"] for minute in overview["requests_per_minute"]) == 1
    assert [(one["count"], one["share"]) for one in overview["tiers"]] == [(1, 1.0)]
    assert overview["latency_ms"]["p50"] > 0
    assert overview["errors"] == {"count": 0, "share": 0.0}


async def test_overview_of_nothing_says_what_is_missing(client):
    overview = (await client.get("/v1/overview")).json()
    assert overview["status"] == "degraded"
    found = parts_of(overview)
    assert (found["worker"], found["predictor"], found["champion"]) == ("down", "down", "degraded")
    assert (overview["champion"], overview["latency_ms"]["p95"]) == (None, None)


async def test_traffic_is_not_read_again_at_once(client, services, monkeypatch):
    await client.get("/v1/overview")
    services.traffic._stale_at = float("inf")
    services.traffic._run = None
    assert (await client.get("/v1/overview")).status_code == 200


async def test_overview_answers_while_the_database_is_away(settings, running, tmp_path):
    key = tmp_path / "operator.key"
    key.write_text(secrets.token_urlsafe(32))
    url = "postgresql://x@127.0.0.1:1/none"
    away = Settings(home=settings.home, database={"url": url}, operator_key_file=key)
    async with running(away) as (client, _):
        client.headers["Authorization"] = f"Bearer {key.read_text()}"
        overview = (await client.get("/v1/overview")).json()
    assert overview["status"] == "degraded"
    assert (parts_of(overview)["database"], parts_of(overview)["worker"]) == ("down", "degraded")
    assert overview["requests_per_minute"] == []


async def test_outcomes_are_of_the_hours_that_are_asked_for(client):
    assert (await client.get("/v1/outcomes")).json() == {"series": []}
    assert (await client.get("/v1/outcomes", params={"hours": 168})).status_code == 200
    for hours in (0, 169, "x"):
        assert (await client.get("/v1/outcomes", params={"hours": hours})).status_code == 422
