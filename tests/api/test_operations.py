import asyncio
from uuid import uuid4

import pytest

from marquee.config import Settings
from marquee.models import model_names
from marquee.store.repositories import runs

pytestmark = pytest.mark.integration

STEPS = ["prepare", "train", "promote", "infer"]
ROUTES = [
    ("pipeline", "pipeline", None, {"train": {"model": "mlp"}, "infer": {"k": 20}}),
    ("pipeline", "pipeline", {"model_name": "ease", "k": 5}, {"train": {"model": "ease"}, "infer": {"k": 5}}),
    ("prepare-data", "prepare", None, {}),
    ("train", "train", {"model_name": "mlp"}, {"model": "mlp"}),
    ("model-inference", "infer", None, {}),
    ("backup", "backup", None, {}),
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


async def test_who_lost_the_answer_asks_again_and_gets_the_same_run(worker, client):
    key = {"Idempotency-Key": "daily/train/1"}
    body = {"model_name": "mlp"}
    first = await client.post("/run/train", json=body, headers=key, params={"wait": "false"})
    again = await client.post("/run/train", json=body, headers=key, params={"wait": "false"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["run_id"] == first.json()["run_id"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    await worker(train="succeed")
    joined = await client.post("/run/train", json=body, headers=key)
    ended = await client.post("/run/train", json=body, headers=key, params={"wait": "false"})
    for answer in (joined, ended):
        assert (answer.status_code, answer.json()) == (200, {"result": "train finished"})
        assert answer.headers["idempotency-replayed"] == "true"
    assert len((await client.get("/v1/runs")).json()["runs"]) == 1


async def test_run_that_failed_gives_its_key_to_the_next(worker, client):
    await worker(train="fail")
    key, body = {"Idempotency-Key": "daily/train/2"}, {"model_name": "mlp"}
    ids = {(await client.post("/run/train", json=body, headers=key)).json()["run_id"] for _ in range(2)}
    assert len(ids) == 2


async def test_key_that_stands_for_another_request_is_refused(client):
    key = {"Idempotency-Key": "one"}
    await client.post("/run/train", json={"model_name": "mlp"}, headers=key, params={"wait": "false"})
    for path, body in (("train", {"model_name": "ease"}), ("backup", None)):
        refused = await client.post(f"/run/{path}", json=body, headers=key)
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/key-reused")
    for bad in ("", "a b", "x" * 201):
        refused = await client.post("/run/backup", headers={"Idempotency-Key": bad})
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/invalid-request")


async def test_ten_simultaneous_requests_of_one_key_are_one_run(client):
    key = {"Idempotency-Key": "ten"}
    answers = await asyncio.gather(
        *(client.post("/run/prepare-data", params={"wait": "false"}, headers=key) for _ in range(10))
    )
    assert [answer.status_code for answer in answers] == [202] * 10
    assert len({answer.json()["run_id"] for answer in answers}) == 1


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


async def test_whole_pipeline_is_one_run_that_shows_its_steps(worker, client):
    queued = await client.post("/run/pipeline", params={"wait": "false"})
    path = queued.headers["location"]
    waiting = (await client.get(path)).json()
    assert [(step["name"], step["status"], step["started_at"]) for step in waiting["steps"]] == [
        (name, "queued", None) for name in STEPS
    ]
    step = waiting["steps"][1]["run_id"]
    refused = await client.post("/run/train", json={"model_name": "mlp"})
    assert (refused.status_code, refused.json()["run_id"]) == (409, step)
    await worker()
    run = await finished(client, path)
    assert (run["status"], run["counts"], run["progress"]) == ("succeeded", {"rows": 3}, 1.0)
    assert [each["status"] for each in run["steps"]] == ["succeeded"] * 4
    assert all(each["finished_at"] >= each["started_at"] for each in run["steps"])
    assert [each["pipeline"] for each in (await client.get("/v1/runs")).json()["runs"]] == ["pipeline"]
    (part,) = (await client.get("/v1/runs", params={"pipeline": "train"})).json()["runs"]
    assert (part["run_id"], part["steps"]) == (step, [])


async def test_failed_step_is_a_500_that_says_why(worker, client):
    await worker(train="fail")
    response = await client.post("/run/pipeline", json={"model_name": "ease"})
    assert response.status_code == 500
    assert "There are no interactions." in response.json()["detail"]
    run = (await client.get(f"/v1/runs/{response.json()['run_id']}")).json()
    assert [step["status"] for step in run["steps"]] == ["succeeded", "failed", "cancelled", "cancelled"]


async def test_run_that_waits_is_cancelled_once(client):
    queued = (await client.post("/run/prepare-data", params={"wait": "false"})).json()
    path = f"/v1/runs/{queued['run_id']}"
    cancelled = await client.post(f"{path}/cancel")
    assert cancelled.status_code == 200
    assert (cancelled.json()["status"], cancelled.json()["error"]) == (
        "cancelled",
        "Cancelled by api:operator.",
    )
    assert (await client.get(path)).json() == cancelled.json()
    again = await client.post(f"{path}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/run-finished")
    assert again.json()["run_id"] == queued["run_id"]
    assert (await client.post("/run/prepare-data", params={"wait": "false"})).status_code == 202
    assert (await client.post(f"/v1/runs/{uuid4()}/cancel")).status_code == 404
    assert (await client.post("/v1/runs/nonsense/cancel")).status_code == 422


async def test_who_waits_for_a_run_that_is_cancelled_hears_of_it(client):
    waiting = asyncio.create_task(client.post("/run/prepare-data"))
    async with asyncio.timeout(60):
        while not (listed := (await client.get("/v1/runs")).json()["runs"]):
            await asyncio.sleep(0.01)
    await client.post(f"/v1/runs/{listed[0]['run_id']}/cancel")
    response = await waiting
    assert (response.status_code, response.json()["type"]) == (500, "/problems/run-failed")
    assert "cancelled: Cancelled by" in response.json()["detail"]


async def test_log_of_a_run_is_read_on_from_where_the_last_reading_ended(worker, client):
    await worker()
    queued = (await client.post("/run/prepare-data", params={"wait": "false"})).json()
    await finished(client, f"/v1/runs/{queued['run_id']}")
    path = f"/v1/runs/{queued['run_id']}/logs"
    async with asyncio.timeout(60):  # the last lines are written when the run has ended
        while "run.finished" not in str(page := (await client.get(path)).json()):
            await asyncio.sleep(0.05)
    first = (await client.get(path, params={"limit": 1})).json()
    assert first["lines"][0]["event"] == "run.started"
    assert first["next"] == str(first["lines"][0]["id"])
    rest = (await client.get(path, params={"after": first["next"]})).json()
    assert first["lines"] + rest["lines"] == page["lines"]
    end = (await client.get(path, params={"after": rest["next"]})).json()
    assert end == {"lines": [], "next": rest["next"]}


async def test_log_of_an_unknown_run_is_a_404_and_a_bad_cursor_a_422(client):
    assert (await client.get(f"/v1/runs/{uuid4()}/logs")).status_code == 404
    for after in ("x", "-1", "1" * 19):
        response = await client.get(f"/v1/runs/{uuid4()}/logs", params={"after": after})
        assert response.status_code == 422, after


async def finished(client, path):
    async with asyncio.timeout(60):
        while (run := (await client.get(path)).json())["finished_at"] is None:
            await asyncio.sleep(0.05)
    return run
