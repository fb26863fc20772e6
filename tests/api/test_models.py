"""Versions of models over HTTP."""

import pytest

from marquee.store.repositories import deployments, runs

pytestmark = pytest.mark.integration


async def test_versions_are_listed_with_their_slots(deployed, deploy, trained, client):
    challenger = deploy(trained.popularity, "challenger")
    listed = (await client.get("/v1/models")).json()["models"]
    assert [(each["version"], each["slots"]) for each in listed] == [
        (challenger.version, ["challenger"]),
        (deployed.version, ["champion", "predictor"]),
    ]
    assert listed[0]["age_seconds"] >= 0
    assert listed[0]["size_bytes"] > 0
    assert len((await client.get("/v1/models?limit=1")).json()["models"]) == 1


async def test_rollback_brings_back_what_served_before(deployed, deploy, trained, client, database):
    deploy(trained.popularity, "champion")
    made = (await client.post("/v1/models/rollback", json={"reason": "complaints"})).json()
    assert (made["version"], made["reason"], made["deployed_by"]) == (
        deployed.version,
        "complaints",
        "api:operator",
    )
    with database.begin() as connection:
        assert deployments.current(connection, "champion").digest == deployed.digest
        assert [run.pipeline for run in runs.recent(connection)] == ["mirror"]
    response = await client.post("/v1/models/rollback", json={})
    assert (response.status_code, response.json()["type"]) == (409, "/problems/not-possible")


async def test_rollback_of_an_empty_slot_is_not_possible(client):
    response = await client.post("/v1/models/rollback", json={"slot": "predictor"})
    assert (response.status_code, response.json()["type"]) == (409, "/problems/not-possible")


async def test_version_that_waits_is_approved(deployed, deploy, trained, client, database):
    waiting = deploy(trained.popularity)
    report = {"verdict": "waiting", "reasons": ["better"], "champion": {"digest": deployed.digest}}
    with database.begin() as connection:
        deployments.append(
            connection,
            "challenger",
            bundle=waiting.key,
            digest=waiting.digest,
            model=waiting.model,
            version=waiting.version,
            deployed_by="test",
            reason="test",
            gate_report=report,
        )
    made = (await client.post("/v1/models/approve", json={"reason": "looked at it"})).json()
    assert (made["slot"], made["version"]) == ("champion", waiting.version)
    assert (await client.post("/v1/models/approve", json={})).status_code == 404


async def test_promotion_is_queued_for_a_worker_with_who_asked(deployed, client, database):
    response = await client.post("/v1/models/promote?wait=false", json={"version": deployed.version})
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/runs/{response.json()['run_id']}"
    with database.begin() as connection:
        run = runs.recent(connection)[0]
    assert (run.pipeline, run.parameters["version"], run.parameters["by"]) == (
        "promote",
        deployed.version,
        "api:operator",
    )
    assert (await client.post("/v1/models/promote?wait=false", json={})).status_code == 409


async def test_verdict_of_the_gate_is_the_answer(deployed, client, worker):
    await worker(promote="refuse")
    response = await client.post("/v1/models/promote", json={})
    assert response.status_code == 200, response.text
    assert (response.json()["verdict"], response.json()["reasons"]) == ("refused", ["It is no better."])


async def test_promotion_that_cannot_be_is_refused(client):
    for body in ({"force": True}, {"force": True, "require_approval": True, "reason": "x"}):
        assert (await client.post("/v1/models/promote", json=body)).status_code == 422
    assert (await client.post("/v1/models/promote", json={"version": "ease/none"})).status_code == 404
