"""Experiments over HTTP."""

import asyncio

import pytest

from marquee.monitoring.canary import Watch
from marquee.store.repositories import deployments

pytestmark = pytest.mark.integration


@pytest.fixture
def challenger(deployed, deploy, trained):
    """A champion and a challenger."""
    return deploy(trained.popularity, "challenger")


async def test_canary_is_started_looked_at_and_promoted(challenger, client, database):
    response = await client.post("/v1/experiments", json={"kind": "canary", "share": 0.1, "reason": "new"})
    assert response.status_code == 201, response.text
    made = response.json()
    assert [(arm["name"], arm["share"]) for arm in made["arms"]] == [("champion", 0.9), ("challenger", 0.1)]
    path = f"/v1/experiments/{made['experiment_id']}"
    found = (await client.get(path)).json()
    assert (found["status"], found["shown"]["verdict"]) == ("running", "not decided yet")
    assert found["shown"]["comparisons"][0]["always_low"] is None

    ended = (await client.post(f"{path}/stop", json={"promote": "challenger", "reason": "sure"})).json()
    assert (ended["status"], ended["ended_because"]) == ("promoted", "sure")
    with database.begin() as connection:
        champion = deployments.current(connection, "champion")
    assert champion.digest == challenger.digest
    assert champion.deployed_by == "api:operator"
    assert (await client.get(path)).json() == ended


async def test_second_experiment_is_a_409_that_names_the_first(challenger, client):
    arms = [{"version": "champion", "share": 0.5}, {"version": "challenger", "share": 0.5}]
    assert (await client.post("/v1/experiments", json={"name": "one", "arms": arms})).status_code == 201
    response = await client.post("/v1/experiments", json={"name": "two", "arms": arms})
    assert response.status_code == 409
    problem = response.json()
    assert (problem["type"], "'one'" in problem["detail"]) == ("/problems/experiment-conflict", True)
    listed = (await client.get("/v1/experiments")).json()["experiments"]
    assert [each["name"] for each in listed] == ["one"]


async def test_ended_experiment_cannot_be_stopped_again(challenger, client):
    made = (await client.post("/v1/experiments", json={"kind": "canary"})).json()
    path = f"/v1/experiments/{made['experiment_id']}/stop"
    assert (await client.post(path, json={})).json()["status"] == "stopped"
    assert (await client.post(path, json={})).status_code == 409


async def test_canary_without_challenger_is_not_possible(deployed, client):
    response = await client.post("/v1/experiments", json={"kind": "canary"})
    assert (response.status_code, response.json()["type"]) == (409, "/problems/not-possible")


NO_EXPERIMENTS = [
    {},
    {"name": "x", "arms": [{"version": "champion", "share": 0.5}]},
    {"kind": "canary", "share": 1.5},
    {"kind": "canary", "arms": [{"version": "champion", "share": 0.5}]},
    {"name": "x", "arms": [{"version": "champion", "share": 0.5}, {"version": "challenger", "share": 0.6}]},
    {"name": "x", "arms": [{"version": "champion", "share": 0.5, "name": "a"}] * 2},
]


async def test_body_that_makes_no_experiment_is_a_422(challenger, client):
    for body in NO_EXPERIMENTS:
        response = await client.post("/v1/experiments", json=body)
        assert (response.status_code, response.json()["type"]) == (422, "/problems/invalid-request"), body


async def test_unknown_experiment_version_and_arm_are_404(challenger, client):
    assert (await client.get("/v1/experiments/99")).status_code == 404
    body = {"kind": "canary", "version": "ease/none"}
    assert (await client.post("/v1/experiments", json=body)).status_code == 404
    made = (await client.post("/v1/experiments", json={"kind": "canary"})).json()
    path = f"/v1/experiments/{made['experiment_id']}/stop"
    assert (await client.post(path, json={"promote": "third"})).status_code == 404


async def test_looks_at_an_experiment_are_kept(challenger, client, database):
    made = (await client.post("/v1/experiments", json={"kind": "canary"})).json()
    path = f"/v1/experiments/{made['experiment_id']}"
    assert (await client.get(f"{path}/history")).json() == {"looks": []}
    watch = Watch(database, kept_seconds=0)
    for _ in range(2):
        await asyncio.to_thread(watch.look)  # the API beside it goes on
        watch._next_measure = 0.0
    shown = (await client.post(f"{path}/stop", json={})).json()["shown"]
    looks = (await client.get(f"{path}/history")).json()["looks"]
    assert len(looks) == 3
    assert looks[-1] == {"measured_at": shown["measured_at"], "comparisons": shown["comparisons"]}
    assert (await client.get("/v1/experiments/99/history")).status_code == 404


async def test_comparison_is_looked_at_too_and_left_alone(challenger, client, database):
    arms = [{"version": "champion", "share": 0.5}, {"version": "challenger", "share": 0.5}]
    made = (await client.post("/v1/experiments", json={"name": "one", "arms": arms})).json()
    watch = Watch(database)
    assert [await asyncio.to_thread(watch.look) for _ in range(2)] == [None, None]
    history = (await client.get(f"/v1/experiments/{made['experiment_id']}/history")).json()
    assert len(history["looks"]) == 1  # the second look came too soon to be kept
