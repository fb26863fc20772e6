import asyncio
from uuid import uuid4

import pytest

from marquee.config import Settings
from marquee.models import model_names
from marquee.store.repositories import runs

pytestmark = pytest.mark.integration

ROUTES = [
    ("prepare-data", "prepare", None, {}),
    ("train", "train", {"model_name": "mlp"}, {"model": "mlp"}),
    ("model-inference", "infer", None, {}),
]


async def test_run_is_waited_for_and_its_end_reported(worker, client):
    await worker(train="succeed")
    for path, result in (("prepare-data", "prepare-data"), ("model-inference", "model-inference")):
        response = await client.post(f"/run/{path}")
        assert response.status_code == 200, response.text
        assert response.json() == {"result": f"{result} finished"}
    listed = (await client.get("/v1/runs")).json()["runs"]
    assert [(run["pipeline"], run["status"]) for run in listed] == [
        ("infer", "succeeded"),
        ("prepare", "succeeded"),
    ]
    assert listed[0]["counts"] == {"rows": 3}


async def test_failed_run_is_a_500_with_its_error_and_id(worker, client):
    await worker(train="fail")
    response = await client.post("/run/train", json={"model_name": "mlp"})
    assert response.status_code == 500
    problem = response.json()
    assert problem["type"] == "/problems/run-failed"
    assert "There are no interactions." in problem["detail"]
    run = (await client.get(f"/v1/runs/{problem['run_id']}")).json()
    assert run["status"] == "failed"
    assert "There are no interactions." in run["error"]


@pytest.mark.parametrize(("path", "pipeline", "body", "parameters"), ROUTES)
async def test_run_is_queued_and_a_second_one_refused_with_the_id_of_the_first(
    client, database, path, pipeline, body, parameters
):
    accepted = await client.post(f"/run/{path}", json=body, params={"wait": "false"})
    assert accepted.status_code == 202
    run_id = accepted.json()["run_id"]
    assert accepted.json() == {"run_id": run_id, "status": "queued", "location": f"/v1/runs/{run_id}"}
    run = (await client.get(accepted.headers["location"])).json()
    assert (run["pipeline"], run["status"], run["parameters"]) == (pipeline, "queued", parameters)
    assert (run["step"], run["progress"], run["error"], run["finished_at"]) == (None, None, None, None)
    refused = await client.post(f"/run/{path}", json=body)
    assert refused.status_code == 409
    assert refused.json()["type"] == "/problems/already-running"
    assert refused.json()["run_id"] == run_id
    with database.begin() as connection:
        assert len(runs.recent(connection)) == 1


async def test_ten_simultaneous_requests_start_one_run(client):
    answers = await asyncio.gather(
        *(client.post("/run/prepare-data", params={"wait": "false"}) for _ in range(10))
    )
    assert sorted(response.status_code for response in answers) == [202] + [409] * 9
    assert len({response.json()["run_id"] for response in answers}) == 1


async def test_run_longer_than_the_wait_is_a_202_with_its_id(settings, running):
    hasty = Settings(home=settings.home, database=settings.database, api={"wait_seconds": 0.2})
    async with running(hasty) as (client, _):
        response = await client.post("/run/prepare-data")
        assert response.status_code == 202
        assert response.headers["location"] == f"/v1/runs/{response.json()['run_id']}"


async def test_wait_ends_when_the_api_is_stopped(client, services):
    waiting = asyncio.create_task(client.post("/run/prepare-data"))
    await asyncio.sleep(0)
    services.stopping.set()
    assert (await waiting).status_code == 202


@pytest.mark.parametrize("name", ["nonsense", "os:system", "", "\x00"])
async def test_unknown_model_is_a_422_that_lists_the_known_ones(client, name):
    response = await client.post("/run/train", json={"model_name": name})
    assert response.status_code == 422
    problem = response.json()
    assert problem["errors"][0]["field"] == "body.model_name"
    assert all(known in problem["detail"] for known in model_names())


async def test_unknown_run_is_a_404_and_a_malformed_id_a_422(client):
    missing = uuid4()
    response = await client.get(f"/v1/runs/{missing}")
    assert response.status_code == 404
    assert response.json()["type"] == "/problems/not-found"
    assert str(missing) in response.json()["detail"]
    assert (await client.get("/v1/runs/nonsense")).status_code == 422


async def test_runs_are_listed_newest_first_of_one_pipeline_or_all(client):
    for path in ("prepare-data", "model-inference"):
        await client.post(f"/run/{path}", params={"wait": "false"})
    every = (await client.get("/v1/runs")).json()["runs"]
    assert [run["pipeline"] for run in every] == ["infer", "prepare"]
    newest = (await client.get("/v1/runs", params={"limit": 1})).json()["runs"]
    assert newest == every[:1]
    prepared = (await client.get("/v1/runs", params={"pipeline": "prepare"})).json()["runs"]
    assert prepared == every[1:]
