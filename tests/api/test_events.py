"""Feedback over HTTP: plain requests on the hot road, refusals worded by the framework's."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from stored_events import seen_items

pytestmark = pytest.mark.integration

FIRST_ID = 27205
ITEM, OTHER = FIRST_ID + 1, FIRST_ID + 2
NOWHERE = 999_999_999

WRONG = [
    ({"occurred_at": "2999-01-01T00:00:00Z"}, "body.occurred_at"),
    ({"occurred_at": "1969-12-31T23:59:59Z"}, "body.occurred_at"),
    ({"occurred_at": "2026-01-01T00:00:00"}, "body.occurred_at"),
    ({"event": "rate"}, "body.rating"),
    ({"event": "rate", "rating": 10.5}, "body.rating"),
    ({"event": "rate", "rating": "NaN"}, "body.rating"),
    ({"event": "like", "rating": 5}, "body.rating"),
    ({"event": "click", "watch_seconds": 5}, "body.watch_seconds"),
    ({"watch_seconds": -1}, "body.watch_seconds"),
    ({"event": "undo"}, "body.revokes"),
    ({"revokes": "a"}, "body.revokes"),
    ({"event": "view", "item_id": None}, "body.request_id"),
    ({"event": "dance"}, "body.event"),
    ({"item_id": None}, "body.item_id"),
    ({"item_id": 2**63}, "body.item_id"),
    ({"user_id": -1}, "body.user_id"),
    ({"user_id": None}, "body.user_id"),
    ({"event_key": "a" * 129}, "body.event_key"),
    ({"event_key": ""}, "body.event_key"),
    ({"event_key": "a\0"}, "body.event_key"),
    ({"request_id": "7"}, "body.request_id"),
    ({"colour": "red"}, "body.colour"),
]


async def send(client, *events, status=202, **one):
    """One event from its fields, or several."""
    body = {"events": list(events)} if events else {"user_id": 1, "event": "watch", "item_id": ITEM, **one}
    response = await client.post("/v1/events", json=body)
    assert response.status_code == status, response.text
    return response.json()


def stored(database, columns="user_id, item_id, event"):
    with database.begin() as connection:
        query = text(f"SELECT {columns} FROM interactions ORDER BY interaction_id")
        return [tuple(row) for row in connection.execute(query)]


async def test_event_is_stored_when_it_is_acknowledged(catalogue, client, database):
    answer = await send(client, watch_seconds=60.5, event_key="a", request_id=str(uuid4()))
    assert answer == {"accepted": 1, "duplicates": 0, "event_keys": ["a"]}
    assert stored(database, "user_id, item_id, event, watch_seconds, event_key, source") == [
        (1, ITEM, "watch", 60.5, "1:a", "live")
    ]


async def test_event_sent_again_changes_nothing(catalogue, client, database):
    await send(client, event_key="a")
    again = await send(client, event_key="a", item_id=OTHER)
    assert again == {"accepted": 0, "duplicates": 1, "event_keys": ["a"]}
    assert stored(database) == [(1, ITEM, "watch")]


async def test_key_of_one_user_stands_in_nobody_elses_way(catalogue, client, database):
    await send(client, event_key="a", user_id=1)
    assert (await send(client, event_key="a", user_id=2))["accepted"] == 1


async def test_event_without_key_is_given_one_to_undo_it_by(catalogue, client, database):
    (key,) = (await send(client))["event_keys"]
    with database.begin() as connection:
        assert seen_items(connection, 1) == {ITEM}
    body = {"user_id": 1, "event": "undo", "revokes": key}
    assert (await client.post("/v1/events", json=body)).status_code == 202
    with database.begin() as connection:
        assert seen_items(connection, 1) == frozenset()


async def test_undo_that_comes_before_its_event_counts(catalogue, client, database):
    await client.post("/v1/events", json={"user_id": 1, "event": "undo", "revokes": "later"})
    await send(client, event_key="later")
    with database.begin() as connection:
        assert seen_items(connection, 1) == frozenset()


async def test_undo_of_another_users_event_does_nothing(catalogue, client, database):
    await send(client, event_key="a", user_id=1)
    await client.post("/v1/events", json={"user_id": 2, "event": "undo", "revokes": "a"})
    with database.begin() as connection:
        assert seen_items(connection, 1) == {ITEM}


async def test_several_events_are_stored_together(catalogue, client, database):
    answer = await send(
        client,
        {"user_id": 1, "event": "click", "item_id": ITEM, "event_key": "c"},
        {"user_id": 2, "event": "rate", "item_id": OTHER, "rating": 8, "watch_seconds": 5},
        {"user_id": 1, "event": "click", "item_id": ITEM, "event_key": "c"},
        {"user_id": 1, "event": "view", "request_id": str(uuid4())},
    )
    assert (answer["accepted"], answer["duplicates"]) == (3, 1)
    assert (answer["event_keys"][0], answer["event_keys"][3]) == ("c", None)
    assert sorted(stored(database)) == [(1, ITEM, "click"), (2, OTHER, "rate")]


async def test_unknown_item_is_named_and_nothing_of_the_request_is_stored(catalogue, client, database):
    problem = await send(
        client,
        {"user_id": 1, "event": "like", "item_id": ITEM},
        {"user_id": 1, "event": "like", "item_id": NOWHERE},
        status=404,
    )
    assert problem["type"] == "/problems/unknown-item"
    assert str(NOWHERE) in problem["detail"]
    assert stored(database) == []


async def test_item_added_meanwhile_is_known_at_once(catalogue, client, database):
    await send(client, item_id=NOWHERE, status=404)
    with database.begin() as connection:
        query = "INSERT INTO items (item_id, title, source) VALUES (:id, 'New', 'test')"
        connection.execute(text(query), {"id": NOWHERE})
    await send(client, item_id=NOWHERE)


async def test_item_of_the_served_bundle_is_known(deploy, trained, client, database):
    await send(client, item_id=ITEM, status=404)
    deploy(trained.mlp, "predictor", "champion")
    async with asyncio.timeout(60):
        while (
            await client.post("/v1/events", json={"user_id": 1, "event": "like", "item_id": ITEM})
        ).is_error:
            await asyncio.sleep(0.02)


async def test_wrong_field_is_named_and_nothing_is_stored(catalogue, client, database):
    for fields, field in WRONG:
        problem = await send(client, status=422, **fields)
        assert problem["type"] == "/problems/invalid-request"
        assert [error["field"] for error in problem["errors"]] == [field]
        good = {"user_id": 1, "event": "like", "item_id": ITEM}
        bad = {**good, "event": "watch", **fields}
        problem = await send(client, good, bad, status=422)
        assert [error["field"] for error in problem["errors"]] == [field.replace("body", "body.events.1")]
    assert stored(database) == []


async def test_body_of_another_shape_is_refused(catalogue, client):
    for body in (b"", b"[]", b"null", b'{"events": []}', b'{"events": {}}', b"{", b"\xff"):
        response = await client.post("/v1/events", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"


async def test_more_events_than_allowed_are_refused(catalogue, client, database):
    event = {"user_id": 1, "event": "like", "item_id": ITEM}
    await send(client, *[event] * 1_001, status=422)
    assert (await send(client, *[event] * 1_000))["accepted"] == 1_000


async def test_clock_that_is_a_little_ahead_is_accepted(catalogue, client, database):
    ahead = datetime.now(UTC) + timedelta(minutes=10)
    await send(client, occurred_at=ahead.isoformat())
    assert stored(database, "occurred_at") == [(ahead,)]


async def test_visitor_reports_as_themselves_only(catalogue, client, database):
    client.headers["Origin"] = str(client.base_url)
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO api_keys (key_id, name, secret_hash, role) VALUES ('k', 'k', '', 'viewer')")
        )
        connection.execute(text("SELECT pg_notify('marquee_keys', '*')"))
    async with asyncio.timeout(60):
        while (await client.post("/v1/events", json={})).status_code != 401:
            await asyncio.sleep(0.02)
    user_id = (await client.post("/v1/session")).json()["user_id"]
    await send(client, user_id=None)
    await send(client, user_id=user_id)
    problem = await send(client, user_id=user_id + 1, status=403)
    assert problem["type"] == "/problems/forbidden"
    assert stored(database) == [(user_id, ITEM, "watch")] * 2


async def test_erased_user_has_no_new_events(catalogue, client, database):
    with database.begin() as connection:
        connection.execute(text("INSERT INTO users (user_id, kind, erased_at) VALUES (1, 'live', now())"))
    assert (await send(client, status=410))["type"] == "/problems/erased"
    assert stored(database) == []


async def test_event_that_one_process_acknowledges_counts_in_the_other(
    catalogue, settings, running, database
):
    async with running(settings) as (a, _), running(settings) as (_, b):
        users = b.state.services.users
        for i in range(100):
            item = FIRST_ID + i % 60
            await send(a, user_id=i % 5, item_id=item, event_key=str(i))
            state = await users.get(i % 5)
            assert item in state.seen
            assert state.events["item"][-1] == item
            if i % 7 == 0:
                await send(a, {"user_id": i % 5, "event": "undo", "revokes": str(i)})
                assert len((await users.get(i % 5)).events) == len(state.events) - 1


async def test_without_database_a_retry_is_asked_for_and_makes_no_second_event(
    catalogue, client, services, database, database_url
):
    await send(client, event_key="a")
    url, services.database.url = services.database.url, "postgresql://nobody@127.0.0.1:1/none"
    services.events._line.close()
    response = await client.post(
        "/v1/events", json={"user_id": 1, "event": "like", "item_id": ITEM, "event_key": "b"}
    )
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    services.database.url = url
    assert (await send(client, event="like", event_key="b"))["accepted"] == 1
    assert (await send(client, event="like", event_key="b"))["duplicates"] == 1
