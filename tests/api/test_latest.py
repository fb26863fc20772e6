import asyncio

import numpy as np
import psycopg
import pytest
from sqlalchemy import insert
from waiting import eventually

from marquee.data import RankedItems
from marquee.store import tables
from marquee.store.repositories import items, recommendations

pytestmark = pytest.mark.integration

FIRST_ID = 27205
VIEWING = {"user_id": 1, "content_id": FIRST_ID, "watch_seconds": 5400, "rating": 8.5, "popularity": 20.0}


async def latest(client, k=10):
    response = await client.get("/latest-recommendations", params={"k": k})
    assert response.status_code == 200
    return [film["content_id"] for film in response.json()["recent_recommendations"]]


async def predict(client, **changes):
    answer = (await client.post("/predict", json={**VIEWING, **changes})).json()
    return [film["content_id"] for film in answer["recommendations"]]


def store(database, *item_ids):
    """A prediction of another process."""
    with database.begin() as connection:
        values = {"user_id": 1, "item_id": 1, "item_ids": item_ids, "scores": [0.5] * len(item_ids)}
        connection.execute(insert(tables.predictions).values(**values, bundle="b"))
        connection.exec_driver_sql("SELECT pg_notify('marquee_predictions', '*')")


async def test_prediction_of_one_process_is_shown_by_another(deployed, settings, running):
    async with running(settings) as (one, _), running(settings) as (other, _):
        for watch_seconds in (100, 2000, 4000, 7000):
            predicted = await predict(one, watch_seconds=watch_seconds, k=3)

            async def shown(predicted=predicted):
                return await latest(other, 3) == predicted

            await eventually(shown)
            assert await latest(one, 3) == predicted


async def test_own_predictions_are_shown_in_the_order_in_which_they_are_stored(deployed, settings, running):
    async with running(settings) as (one, _), running(settings) as (other, _):
        for watch_seconds in range(0, 9000, 300):
            predicted = await predict(one, watch_seconds=watch_seconds, k=5)
            assert await latest(one, 5) == predicted
        shown = await latest(one, 100)
        assert len(set(shown)) == len(shown)

        async def stored():
            assert await latest(one, 100) == shown
            return await latest(other, 100) == shown

        await eventually(stored)


async def test_prediction_of_another_process_comes_before_older_ones_of_our_own(
    deployed, client, services, database
):
    await predict(client, k=3)
    await services.journal.flush()
    store(database, FIRST_ID + 7, FIRST_ID + 8)

    async def shown():
        return (await latest(client, 3))[:2] == [FIRST_ID + 7, FIRST_ID + 8]

    await eventually(shown)


async def test_new_batch_and_new_catalogue_cards_are_shown_without_a_restart(
    catalogue, client, database, trained
):
    assert await latest(client) == []
    with database.begin() as connection:
        ranked = RankedItems(np.array([[27206, 27207]]), np.ones((1, 2), np.float32))
        recommendations.replace_all(connection, np.array([1]), ranked, bundle="b")

    async def filled():
        return await latest(client) == [27206, 27207]

    await eventually(filled)
    with database.begin() as connection:
        renamed = trained.catalog.table.slice(1, 1).to_pylist()[0] | {"title": "Another title"}
        table = trained.catalog.table.slice(1, 1).from_pylist([renamed], trained.catalog.table.schema)
        items.upsert_items(connection, table, source="test")

    async def renamed_too():
        films = (await client.get("/latest-recommendations")).json()["recent_recommendations"]
        return films[0]["title"] == "Another title"

    await eventually(renamed_too)


async def test_many_readers_share_one_read(deployed, client, services, database, monkeypatch):
    reads = 0
    run = services.run

    async def counted(work, *args, **kwargs):
        nonlocal reads
        reads += 1
        return await run(work, *args, **kwargs)

    monkeypatch.setattr(services, "run", counted)
    answers = await asyncio.gather(*(latest(client) for _ in range(200)))
    assert all(answer == answers[0] for answer in answers)
    assert reads == 1


async def test_what_was_missed_while_the_connection_was_lost_is_shown_later(
    deployed, client, services, database, postgres, database_url
):
    await predict(client, k=3)
    await services.journal.flush()
    name = database_url.partition("/test_")[2].partition("?")[0]
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [f"test_{name}"]
        )
    store(database, FIRST_ID + 9, FIRST_ID + 8)

    async def shown():
        response = await client.get("/latest-recommendations", params={"k": 2})
        films = response.json()["recent_recommendations"]
        return [film["content_id"] for film in films] == [FIRST_ID + 9, FIRST_ID + 8]

    await eventually(shown)
