import asyncio
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import text
from waiting import eventually

from marquee.api import slots
from marquee.api.slots import read_followed
from marquee.config import Settings
from marquee.store import manifests
from marquee.store.repositories import deployments, experiments
from marquee.store.repositories.experiments import Arm

pytestmark = pytest.mark.integration

VIEWING = {"user_id": 1, "content_id": 27205, "watch_seconds": 5400, "rating": 8.5, "popularity": 20.0}


async def health(client):
    return (await client.get("/health")).json()


async def prediction(client):
    response = await client.post("/predict", json=VIEWING)
    assert response.status_code == 200
    return response


async def test_new_deployment_is_served_without_a_restart(deployed, deploy, client, trained):
    before = (await prediction(client)).json()
    ref = deploy(trained.other_mlp, "predictor", "champion")

    async def swapped():
        await prediction(client)  # no request fails on the way
        return (await health(client))["predictor"] == f"mlp/{ref.version}"

    await eventually(swapped)
    assert (await prediction(client)).json() != before


async def test_first_deployment_ends_the_503(catalogue, client, deploy, trained):
    assert (await client.post("/predict", json=VIEWING)).status_code == 503
    deploy(trained.mlp, "predictor")

    async def answers():
        return (await client.post("/predict", json=VIEWING)).status_code == 200

    await eventually(answers)
    assert (await health(client))["champion"] is None


async def test_rollback_to_the_former_bundle_brings_its_answers_back(
    deployed, deploy, client, services, trained
):
    before = (await prediction(client)).json()
    deploy(trained.other_mlp, "predictor")
    await services.probe()
    assert (await prediction(client)).json() != before
    deploy(trained.mlp, "predictor")
    await services.probe()
    assert (await prediction(client)).json() == before


async def test_bundle_that_was_not_used_for_long_goes_when_another_is_deployed(
    deployed, deploy, client, services, trained
):
    cache = services.settings.paths.bundles
    others = deploy(trained.other_mlp, "predictor", "champion")
    await services.probe()
    folders = {ref.key: cache / manifests.sha256_in(ref.key) for ref in (deployed, others)}
    past = time.time() - 91 * 86_400
    for folder in folders.values():
        os.utime(folder, (past, past))
    deploy(trained.popularity, "champion")
    await services.probe()
    assert not folders[deployed.key].exists()
    assert folders[others.key].is_dir()
    deploy(trained.mlp, "predictor")
    await services.probe()
    assert (await health(client))["predictor"] == f"mlp/{deployed.version}"
    assert folders[deployed.key].is_dir()


async def test_what_an_earlier_probe_has_read_is_not_followed_after_a_later_one(
    deployed, deploy, client, services, trained, monkeypatch
):
    read, released, run = asyncio.Event(), asyncio.Event(), services._run

    async def held(work, *arguments, **options):
        answer = await run(work, *arguments, **options)
        if work is read_followed and not read.is_set():
            read.set()
            await released.wait()
        return answer

    deploy(trained.popularity, "predictor")  # which only an mlp can fill
    monkeypatch.setattr(services, "_run", held)
    earlier = asyncio.create_task(services.probe())
    await read.wait()
    deploy(trained.other_mlp, "predictor")
    later = asyncio.create_task(services.probe())
    await asyncio.wait({later}, timeout=0.3)
    released.set()
    await asyncio.gather(earlier, later)
    assert (await health(client))["lacks"] == []


async def test_corrupt_bundle_is_refused_and_the_old_one_stays(
    deployed, deploy, client, services, trained, settings
):
    before = (await prediction(client)).json()
    ref = deploy(trained.other_mlp, "predictor")
    folder = (settings.paths.objects / ref.key).parent
    arrays = next(path for path in folder.iterdir() if path.name.endswith(".safetensors"))
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 0xFF
    arrays.unlink()
    arrays.write_bytes(content)
    await services.probe()
    answer = await health(client)
    assert answer["status"] == "degraded"
    assert answer["lacks"] == ["predictor: newest bundle refused"]
    assert answer["predictor"] == f"mlp/{deployed.version}"
    assert (await prediction(client)).json() == before


async def test_slot_recovers_from_a_refused_bundle_by_the_next_deployment(
    deployed, deploy, client, services, trained
):
    deploy(trained.popularity, "predictor")  # which only an mlp can fill
    await services.probe()
    assert (await health(client))["lacks"] == ["predictor: newest bundle refused"]
    deploy(trained.other_mlp, "predictor")
    await services.probe()
    answer = await health(client)
    assert answer["status"] == "ok"


async def test_champion_may_be_any_model(deployed, deploy, client, services, trained):
    ref = deploy(trained.popularity, "champion")
    await services.probe()
    answer = await health(client)
    assert answer["status"] == "ok"
    assert answer["champion"] == f"popularity/{ref.version}"
    assert answer["predictor"] == f"mlp/{deployed.version}"


@pytest.fixture
def outage(postgres, database_url):
    """Take the database away and give it back."""
    name = database_url.partition("/test_")[2].partition("?")[0]

    def switch(*, up: bool) -> None:
        with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE test_{name} ALLOW_CONNECTIONS {str(up).lower()}")
            if not up:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    [f"test_{name}"],
                )

    yield switch
    switch(up=True)


async def test_without_the_database_answers_go_on_and_say_so(deployed, client, outage):
    before = (await prediction(client)).json()
    outage(up=False)
    for _ in range(3):
        response = await prediction(client)
        assert response.headers["x-marquee-degraded"] == "database"
        assert response.json() == before
    answer = await health(client)
    assert (answer["status"], answer["database"], answer["lacks"]) == (
        "degraded",
        "unreachable",
        ["database"],
    )
    assert (await client.get("/available-content-ids")).status_code == 200
    latest = await client.get("/latest-recommendations", params={"k": 3})
    assert latest.headers["x-marquee-degraded"] == "database"
    assert len(latest.json()["recent_recommendations"]) == 3
    assert (await client.get("/info")).json()["items"] is None
    response = await client.get("/v1/runs")
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert response.json()["type"] == "/problems/store-unavailable"
    outage(up=True)

    async def well():
        return (await health(client))["status"] == "ok"

    await eventually(well)
    assert "x-marquee-degraded" not in (await prediction(client)).headers


async def test_without_database_and_model_latest_recommendations_are_503(client, outage):
    outage(up=False)
    assert (await client.get("/latest-recommendations")).status_code == 503


async def test_database_that_does_not_answer_in_time_is_done_without(
    deployed, settings, database_url, running
):
    hasty = Settings(home=settings.home, database=settings.database, api={"database_seconds": 3.0})
    async with running(hasty) as (client, _):
        with psycopg.connect(database_url) as blocker:
            blocker.execute("LOCK TABLE interactions")
            response = await prediction(client)
            assert response.headers["x-marquee-degraded"] == "database"
            blocker.rollback()

        async def kept():
            return "x-marquee-degraded" not in (await prediction(client)).headers

        await eventually(kept)


async def test_process_starts_and_answers_while_the_database_is_away(deployed, settings, running, outage):
    """From the bundles that it has; and is well again by itself."""
    async with running(settings) as (client, _):
        before = await prediction(client)
    outage(up=False)
    async with running(settings) as (client, _):
        assert (await prediction(client)).json() == before.json()
        answer = await client.post("/v1/recommendations", json={"events": [], "k": 4})
        assert (answer.status_code, len(answer.json()["items"])) == (200, 4)
        assert (await health(client))["lacks"] == ["database"]
        outage(up=True)

        async def well():
            answer = await client.get("/v1/users/1/recommendations?k=4")
            is_whole = answer.status_code == 200 and "x-marquee-degraded" not in answer.headers
            return is_whole and (await health(client))["status"] == "ok"

        await eventually(well)


async def test_emptied_slot_serves_nothing(deployed, client, services, database):
    with database.begin() as connection:
        deployments.clear(connection, "champion", deployed_by="test", reason="test")

    async def emptied():
        await services.probe()
        return (await health(client))["champion"] is None

    await eventually(emptied)


async def test_predictor_is_prepared_for_lists_only_where_it_may_stand_in(
    catalogue, deploy, trained, services, database
):
    deploy(trained.mlp, "predictor")
    deploy(trained.popularity, "champion")
    await services.probe()
    assert services.slots.champion().around.is_made
    assert not services.slots.get("predictor").around.is_made
    with database.begin() as connection:
        deployments.clear(connection, "champion", deployed_by="test", reason="test")
    await services.probe()
    assert services.slots.get("predictor").around.is_made


async def test_experiment_begins_and_ends_in_every_process(
    deployed, deploy, client, services, database, trained
):
    ref = deploy(trained.popularity, "challenger")
    arms = [
        Arm("champion", 0.5, deployed.key, deployed.digest, deployed.model, deployed.version),
        Arm("challenger", 0.5, ref.key, ref.digest, ref.model, ref.version),
    ]

    async def answered_by():
        answers = [await client.get(f"/v1/users/{user}/recommendations") for user in range(1, 21)]
        return {answer.json()["bundle"].partition("/")[0] for answer in answers}

    assert await answered_by() == {"mlp"}
    with database.begin() as connection:
        begun = experiments.start(connection, "one", "canary", arms, started_by="test", reason="test")

    async def both():
        return await answered_by() == {"mlp", "popularity"}

    await eventually(both)
    await services.journal.flush()
    with database.begin() as connection:
        rows = connection.execute(
            text("SELECT user_id, arm, experiment_id FROM impressions WHERE arm IS NOT NULL")
        ).all()
        experiments.finish(connection, begun.experiment_id, "rolled_back", reason="test")
    assert {(row.arm, row.experiment_id) for row in rows} == {
        (begun.arm_of(row.user_id).name, begun.experiment_id) for row in rows
    }

    async def over():
        return await answered_by() == {"mlp"}

    await eventually(over)


@pytest.mark.skipif(sys.platform != "linux", reason="only there has a thread a priority of its own")
@pytest.mark.parametrize(("before", "after"), [(0, slots.NICENESS), (15, 15)])
def test_loading_steps_back_behind_requests_and_never_forward(before, after):
    """A step forward is refused to users, and then nothing would ever be loaded."""

    def niceness():
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(before, os.getpriority(os.PRIO_PROCESS, thread)))
        slots._step_back()
        return os.getpriority(os.PRIO_PROCESS, thread)

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(niceness).result() == max(after, os.getpriority(os.PRIO_PROCESS, 0))
