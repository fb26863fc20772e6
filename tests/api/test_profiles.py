"""Users in a few numbers, and genres, over HTTP."""

from datetime import UTC, datetime, timedelta

import pytest
from stored_events import append_events

from marquee.data import Event
from marquee.store.repositories import editing, erasures
from marquee.store.repositories.interactions import NewEvent, load_interactions

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)
FIRST_ID = 27205
DRAMA = [FIRST_ID + 4 * i for i in range(15)]


@pytest.fixture
def audience(trained, database):
    """The virtual users that the models were trained on, and one who is live."""
    rows = trained.interactions.to_arrow()
    rows = rows.append_column("event_key", [[str(row) for row in range(len(rows))]])
    with database.begin() as connection:
        load_interactions(connection, rows, source="virtual", kind="virtual")
        new = [
            NewEvent(2**52, item, Event.WATCH, f"live:{item}", NOW - timedelta(minutes=n))
            for n, item in enumerate(DRAMA)
        ]
        new.append(NewEvent(2**52, DRAMA[0], Event.UNDO, "live:undo", NOW, revokes=f"live:{DRAMA[1]}"))
        new.append(NewEvent(2**52, DRAMA[0], Event.LIKE, "live:like", NOW))
        append_events(connection, new)


async def get(client, path, **query):
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def test_genres_are_counted_of_what_may_be_shown(deployed, client, services, database):
    counted = (await get(client, "/v1/genres"))["genres"]
    assert counted == [{"genre": genre, "items": 15} for genre in ("Action", "Comedy", "Drama", "Horror")]
    with database.begin() as connection:
        editing.choose(connection, DRAMA[0], {"block": True})
        editing.withdraw(connection, DRAMA[1])
    await services.stock()
    assert (await get(client, "/v1/genres"))["genres"][-1] == {"genre": "Drama", "items": 13}


async def test_genres_without_any_film_are_not_there_yet(client):
    response = await client.get("/v1/genres")
    assert (response.status_code, response.json()["type"]) == (503, "/problems/no-model")


async def test_users_are_listed_with_what_they_like(audience, deployed, client):
    listed = (await get(client, "/v1/users", limit=3))["users"]
    assert len(listed) == 3
    assert {user["kind"] for user in listed} == {"virtual"}
    assert all(user["events"] > 0 and user["favourite_genres"] for user in listed)
    live = (await get(client, "/v1/users", kind="live"))["users"]
    assert live == [{"user_id": 2**52, "kind": "live", "events": len(DRAMA), "favourite_genres": ["Drama"]}]


async def test_profile_counts_what_is_not_undone(audience, deployed, client):
    profile = await get(client, f"/v1/users/{2**52}")
    assert profile.pop("created_at")
    stamp = {name: profile.pop(name) for name in ("first_event_at", "last_event_at")}
    assert profile == {
        "user_id": 2**52,
        "kind": "live",
        "events": {"watch": len(DRAMA) - 1, "like": 1},
        "favourite_genres": ["Drama"],
    }
    moments = [datetime.fromisoformat(stamp[name]) for name in ("first_event_at", "last_event_at")]
    assert moments == [NOW - timedelta(minutes=len(DRAMA) - 1), NOW]


async def test_nothing_is_told_of_the_unknown_and_the_erased(audience, client, database, settings):
    with database.begin() as connection:
        erasures.mark(connection, 2**52, settings.paths.secrets)
    empty = {"created_at": None, "events": {}, "first_event_at": None, "last_event_at": None}
    for user_id, kind in ((999_999, None), (2**52, "erased")):
        assert await get(client, f"/v1/users/{user_id}") == {
            "user_id": user_id,
            "kind": kind,
            "favourite_genres": [],
            **empty,
        }
    assert (await get(client, "/v1/users", kind="live"))["users"] == []


@pytest.mark.parametrize("demo", [False, True])
async def test_anybody_sees_the_virtual_users_of_a_demo(audience, deployed, settings, running, demo, keyed):
    async with running(settings.model_copy(update={"demo": demo})) as (client, _):
        response = await client.get("/v1/users", params={"kind": "live"}, headers={"host": "elsewhere"})
        assert response.status_code == (200 if demo else 401)
        if demo:
            assert {user["kind"] for user in response.json()["users"]} == {"virtual"}
        assert (await client.get("/v1/users/1", headers={"host": "elsewhere"})).status_code == 401


@pytest.fixture
def keyed(database):
    """With a key there is no trust in this machine."""
    from marquee.store.repositories import keys

    with database.begin() as connection:
        keys.create(connection, "someone", "operator")
