import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import orjson
import pytest
from sqlalchemy import text
from stored_events import append_events

from marquee.api import people as routes
from marquee.api.schemas.people import Export
from marquee.data import Event
from marquee.errors import ErasedUserError
from marquee.store.postgres import Database
from marquee.store.repositories import retention
from marquee.store.repositories.impressions import Impression
from marquee.store.repositories.interactions import NewEvent

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)
FIRST_ID = 27205
ANNA, BORA = 2**52 + 1, 2**52 + 2


def watched(user_id: int, n: int) -> list[NewEvent]:
    return [
        NewEvent(user_id, FIRST_ID + i, Event.WATCH, f"{user_id}:w{i}", NOW - timedelta(minutes=i))
        for i in range(n)
    ]


def append(database: Database, *events: NewEvent) -> None:
    with database.begin() as connection:
        append_events(connection, events)


async def history(client: httpx.AsyncClient, user_id: int, **asked) -> dict:
    response = await client.get(f"/v1/users/{user_id}/history", params=asked)
    assert response.status_code == 200, response.text
    return response.json()


async def test_history_is_paged_newest_first_with_what_undo_needs(deployed, client, database):
    append(database, *watched(ANNA, 5), *watched(BORA, 1))
    first = await history(client, ANNA, limit=3)
    assert [event["event_key"] for event in first["events"]] == ["w0", "w1", "w2"]
    assert first["events"][1]["title"] == "Film 27206"
    assert first["events"][1]["poster_url"] == "https://image.tmdb.org/t/p/w500/poster27206.jpg"
    append(database, NewEvent(ANNA, FIRST_ID, Event.CLICK, f"{ANNA}:late", NOW + timedelta(seconds=1)))
    second = await history(client, ANNA, limit=3, cursor=first["next_cursor"])
    assert [event["event_key"] for event in second["events"]] == ["w3", "w4"]
    assert second["next_cursor"] is None
    undo = NewEvent(ANNA, FIRST_ID + 3, Event.UNDO, f"{ANNA}:u", NOW, revokes=f"{ANNA}:w3")
    append(database, undo)
    kept = [event["event_key"] for event in (await history(client, ANNA))["events"]]
    assert kept == ["late", "w0", "w1", "w2", "w4"]


async def test_cursor_of_another_person_is_refused(client, database):
    append(database, *watched(ANNA, 3))
    cursor = (await history(client, ANNA, limit=1))["next_cursor"]
    response = await client.get(f"/v1/users/{BORA}/history", params={"cursor": cursor})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "query.cursor"


async def test_history_of_nobody_is_empty(client):
    assert await history(client, 5) == {"user_id": 5, "events": [], "next_cursor": None}
    assert (await client.get("/v1/users/-1/history")).status_code == 422
    assert (await client.get(f"/v1/users/{2**63}/history")).status_code == 422


@pytest.mark.parametrize("rows", [2, 3, 1_000])
async def test_export_is_a_file_with_everything(client, database, monkeypatch, rows):
    monkeypatch.setattr(routes, "EXPORT_ROWS", rows)
    undo = NewEvent(ANNA, FIRST_ID, Event.UNDO, f"{ANNA}:u", NOW, revokes=f"{ANNA}:w0")
    append(database, *watched(ANNA, 5), *watched(BORA, 1))
    append(database, undo)
    response = await client.get(f"/v1/users/{ANNA}/export")
    assert response.headers["content-disposition"] == f'attachment; filename="marquee-user-{ANNA}.json"'
    assert response.headers["content-type"] == "application/json"
    assert set(orjson.loads(response.content)) == set(Export.model_fields)
    export = Export.model_validate_json(response.content)
    assert [row["event_key"] for row in export.interactions] == [f"{ANNA}:w{i}" for i in range(5)] + [
        f"{ANNA}:u"
    ]
    assert [row["kind"] for row in export.profile] == ["live"]


async def test_person_is_forgotten_at_once_and_for_good(deployed, client, database):
    append(database, *watched(ANNA, 3), *watched(BORA, 2))
    first = (await client.delete(f"/v1/users/{ANNA}")).json()
    assert first["erased"]["interactions"] == 3
    assert first["follows"]
    again = (await client.delete(f"/v1/users/{ANNA}")).json()
    assert again["erased_at"] == first["erased_at"]
    assert set(again["erased"].values()) == {0}
    assert (await history(client, ANNA))["events"] == []
    assert len((await history(client, BORA))["events"]) == 2
    export = Export.model_validate_json((await client.get(f"/v1/users/{ANNA}/export")).content)
    assert export.interactions == export.impressions == []
    assert export.profile[0]["created_at"] == export.profile[0]["erased_at"]
    with pytest.raises(ErasedUserError):
        append(database, *watched(ANNA, 1))


async def test_person_whose_answers_went_is_shown_and_forgotten(deployed, client, services, database):
    request_id, other_id = uuid4(), uuid4()
    append(database, *(replace(event, request_id=request_id) for event in watched(ANNA, 2)))
    for each in (request_id, other_id):
        services.journal.impression(
            Impression(each, NOW, ANNA, [1], [1.0], None, "b", None, "home", "personal", None, 1.0, None)
        )
    await services.journal.flush()
    with database.autocommit() as connection:
        (day,) = connection.execute(
            text("SELECT DISTINCT tableoid::regclass::text FROM impressions")
        ).scalars()
        assert retention.drop_day(connection, day)
    assert len((await history(client, ANNA))["events"]) == 2
    export = Export.model_validate_json((await client.get(f"/v1/users/{ANNA}/export")).content)
    assert (len(export.interactions), export.impressions) == (2, [])
    view = {"user_id": ANNA, "event": "view", "request_id": str(request_id)}
    assert (await client.post("/v1/events", json={"events": [view]})).status_code == 202
    gone = (await client.delete(f"/v1/users/{ANNA}")).json()["erased"]
    assert (gone["interactions"], gone["impressions"]) == (2, 0)


async def test_journal_that_cannot_be_written_does_not_keep_the_rows(deployed, client, services, database):
    append(database, *watched(ANNA, 3))
    row = Impression(uuid4(), NOW, ANNA, [1], [1.0], None, "b", None, "home", "personal", None, 1.0, None)
    twice = (row, row)  # refused: the key is taken
    for each in twice:
        services.journal.impression(each)
    while services.journal.waiting:  # then the journal pauses, and what comes next waits for the erasure
        await asyncio.sleep(0.001)
    for each in twice:
        services.journal.impression(each)
    response = await client.delete(f"/v1/users/{ANNA}")
    assert response.status_code == 200, response.text
    assert response.json()["erased"]["interactions"] == 3


async def test_person_nobody_knew_can_be_forgotten_too(client, database):
    erased = (await client.delete("/v1/users/12")).json()
    assert set(erased["erased"].values()) == {0}
    with pytest.raises(ErasedUserError):
        append(database, *watched(12, 1))


@pytest.mark.parametrize(("method", "path"), [("GET", "history"), ("GET", "export"), ("DELETE", "")])
async def test_without_a_database_the_answer_is_a_503(client, services, method, path):
    while True:
        services.lost("a test")
        response = await client.request(method, f"/v1/users/1/{path}".rstrip("/"))
        if not services.database_is_up:  # else the API has found it again meanwhile
            break
    assert response.status_code == 503
    assert response.json()["type"] == "/problems/store-unavailable"
