"""The recommendations over HTTP: plain requests on the hot road, the others on the framework's."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from stored_events import append_events
from waiting import eventually

from marquee.data import Event
from marquee.models.ease import Ease, EaseConfig
from marquee.store.repositories import editing, items
from marquee.store.repositories.interactions import NewEvent

pytestmark = pytest.mark.integration

FIRST_ID, N_ITEMS = 27205, 60
PATIENT = {"deadline_ms": 5_000}


@pytest.fixture(scope="session")
def ease(trained):
    return Ease(EaseConfig(ridge=20.0)).fit(trained.interactions, trained.catalog)


@pytest.fixture
def champion(catalogue, deploy, ease):
    return deploy(ease, "champion")


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"api": settings.api.model_copy(update=PATIENT)})


@pytest.fixture
def happen(database):
    """Store events as the API of any process would."""

    def append(user_id, *seen, event=Event.WATCH, key=None, revokes=None):
        new = [
            NewEvent(user_id, i, event, f"{user_id}:{key or uuid4()}", datetime.now(UTC), revokes=revokes)
            for i in seen
        ]
        with database.begin() as connection:
            append_events(connection, new)

    return append


async def listed(client, user_id, **query):
    response = await client.get(f"/v1/users/{user_id}/recommendations", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def ids(answer):
    return [item["item_id"] for item in answer["items"]]


async def test_list_has_cards_ranks_and_says_where_it_comes_from(champion, client, happen):
    happen(1, FIRST_ID)
    answer = await listed(client, 1, k=5)
    assert UUID(answer["request_id"])
    assert (answer["user_id"], answer["tier"], answer["source"]) == (1, "personal", "model")
    assert answer["bundle"] == f"ease/{champion.version}"
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4, 5]
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["qualified"] == N_ITEMS - 1
    for item in answer["items"]:
        i = item["item_id"]
        assert (item["title"], item["overview"]) == (f"Film {i}", f"What happens in {i}.")
        assert item["poster_url"] == f"https://image.tmdb.org/t/p/w500/poster{i}.jpg"
        assert item["runtime_minutes"] == 80 + i - FIRST_ID


async def test_new_user_is_personal_after_the_first_event_and_not_any_more_after_its_undo(
    champion, client, happen
):
    before = await listed(client, 99)
    assert (before["tier"], before["user_id"]) == ("popular", 99)
    happen(99, FIRST_ID + 3, key="first")
    after = await listed(client, 99)
    assert after["tier"] == "personal"
    assert FIRST_ID + 3 not in ids(after)
    assert ids(after) != ids(before)
    happen(99, FIRST_ID + 3, event=Event.UNDO, revokes="99:first")
    assert ids(await listed(client, 99)) == ids(before)


async def test_event_that_one_process_acknowledged_counts_in_the_next_answer_of_another(
    champion, settings, running, happen
):
    async with running(settings) as (one, _), running(settings) as (other, _):
        for item in range(FIRST_ID, FIRST_ID + 20):
            happen(5, item)
            for client in (one, other):
                assert not set(ids(await listed(client, 5, k=60))) & set(range(FIRST_ID, item + 1))


async def test_hot_answers_are_the_frameworks(champion, client, happen):
    """An escaped parameter sends a request the long way: to the byte the same answer."""
    happen(1, FIRST_ID, FIRST_ID + 1)
    headers = {"x-request-id": str(uuid4())}
    for path in ("/v1/users/1/recommendations", f"/v1/items/{FIRST_ID}/similar"):
        for query in ("k=7", "genre=Drama&genre=Comedy&max_runtime=120", "exclude=27210&include_adult=true"):
            hot = await client.get(f"{path}?{query}", headers=headers)
            long = await client.get(f"{path}?{query.replace('=', '=%', 0)}&unknown=%20", headers=headers)
            assert hot.status_code == long.status_code == 200
            assert hot.content == long.content
            assert hot.headers["content-type"] == long.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("k=0", "query.k"),
        ("k=101", "query.k"),
        ("k=ten", "query.k"),
        ("diversity=1.5", "query.diversity"),
        ("diversity=nan", "query.diversity"),
        ("explain=perhaps", "query.explain"),
        ("year_from=-1", "query.year_from"),
        ("exclude=1&exclude=x", "query.exclude.1"),
    ],
)
async def test_wrong_parameters_are_named(champion, client, query, field):
    response = await client.get(f"/v1/users/1/recommendations?{query}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


async def test_filters_are_kept_and_fill_the_list(champion, client, happen, trained):
    happen(1, *range(FIRST_ID, FIRST_ID + 8))
    answer = await listed(client, 1, genre=["drama"], max_runtime=130, exclude=[FIRST_ID + 8], k=50)
    assert answer["qualified"] == len(answer["items"])
    assert all(item["genres"] == ["Drama"] for item in answer["items"])
    expected = {i for i in range(FIRST_ID + 9, FIRST_ID + 51) if (i - FIRST_ID) % 4 == 0}
    assert set(ids(answer)) == expected


async def test_session_is_answered_from_its_events_alone(champion, client):
    events = [{"item_id": FIRST_ID + 3, "event": "watch"}, {"item_id": FIRST_ID + 4, "event": "hide"}]
    response = await client.post("/v1/recommendations", json={"events": events, "k": 60})
    answer = response.json()
    assert (response.status_code, answer["tier"], answer["user_id"]) == (200, "session", None)
    assert len(answer["items"]) == N_ITEMS - 2
    nothing = (await client.post("/v1/recommendations", json={"events": []})).json()
    assert nothing["tier"] == "popular"


async def test_batch_answers_as_single_requests_do(champion, client, happen):
    happen(1, FIRST_ID)
    happen(2, FIRST_ID + 3, FIRST_ID + 7)
    response = await client.post("/v1/recommendations/batch", json={"user_ids": [2, 1, 77, 2], "k": 4})
    lists = response.json()["lists"]
    assert [each["user_id"] for each in lists] == [2, 1, 77, 2]
    assert len({each["request_id"] for each in lists}) == 4
    for each in lists:
        assert ids(each) == ids(await listed(client, each["user_id"], k=4))


async def test_reasons_are_faithful(champion, client, happen):
    """Without the film named, the score is lower by the share stated."""
    happen(1, FIRST_ID, FIRST_ID + 3, FIRST_ID + 8, FIRST_ID + 9)
    explained = await listed(client, 1, k=3, explain="true")
    assert ids(explained) == ids(await listed(client, 1, k=3))
    told = 0
    for item in explained["items"]:
        for reason in item["reasons"]["because"]:
            assert reason["title"] == f"Film {reason['item_id']}"
            left = [i for i in (0, 3, 8, 9) if FIRST_ID + i != reason["item_id"]]
            events = [{"item_id": FIRST_ID + i, "event": "watch"} for i in left]
            answer = await client.post("/v1/recommendations", json={"events": events, "k": 60})
            without = {each["item_id"]: each["score"] for each in answer.json()["items"]}
            expected = item["score"] - reason["share"] * abs(item["score"])
            assert without[item["item_id"]] == pytest.approx(expected, rel=0.02, abs=1e-4)
            told += 1
    assert told


async def test_editors_choices_reach_the_next_lists(champion, client, services, database, happen):
    happen(1, FIRST_ID)
    before = await listed(client, 1, k=60)

    def choose(item_id, **choices):
        with database.begin() as connection:
            editing.choose(connection, item_id, choices)

    last = ids(before)[-1]
    blocked = ids(before)[0]
    choose(last, pin=True)
    choose(blocked, block=True)

    async def obeyed():
        now = ids(await listed(client, 1, k=60))
        return now[0] == last and blocked not in now

    await eventually(obeyed)
    popular = ids((await client.get("/v1/popular", params={"k": 60})).json())
    assert popular[0] == last
    assert blocked not in popular
    assert blocked not in ids((await client.get(f"/v1/items/{last}/similar")).json())
    scores = {item["item_id"]: item["score"] for item in before["items"]}
    pinned = (await listed(client, 1, k=1))["items"][0]
    assert pinned["score"] == scores[last]


async def test_new_film_is_recommendable_at_once(champion, client, database, trained):
    row = trained.catalog.table.slice(0, 1).to_pylist()[0]
    new = {**row, "item_id": 999_999, "title": "Brand new"}
    with database.begin() as connection:
        items.upsert_items(connection, trained.catalog.table.from_pylist([new]), source="editor")

    async def there():
        answer = await listed(client, 3, k=61)
        return 999_999 in ids(answer)

    await eventually(there)
    similar = (await client.get("/v1/items/999999/similar")).json()
    assert FIRST_ID in ids(similar)


async def test_unknown_film_has_nothing_similar(champion, client):
    response = await client.get("/v1/items/1/similar")
    assert response.status_code == 404
    assert response.json()["fix"]


async def test_without_a_champion_popular_is_counted(catalogue, database, trained, settings, running):
    with database.begin() as connection:
        append_events(
            connection,
            [
                NewEvent(user, FIRST_ID + 30, Event.WATCH, f"{user}:a", datetime.now(UTC))
                for user in range(1, 6)
            ],
        )
    async with running(settings) as (client, _):
        answer = await listed(client, 50)
        assert (answer["tier"], answer["bundle"]) == ("popular", "popularity")
        popular = (await client.get("/v1/popular")).json()
        assert ids(popular)[0] == FIRST_ID + 30
        assert len(popular["items"]) == 10
        assert FIRST_ID + 30 not in ids(await listed(client, 1, k=60))


async def test_without_anything_there_is_no_model(client):
    response = await client.get("/v1/users/1/recommendations")
    assert response.status_code == 503
    assert response.json()["type"] == "/problems/no-model"


async def test_each_answer_is_an_impression(champion, client, services, database, happen):
    happen(1, FIRST_ID)
    given = str(uuid4())
    await client.get("/v1/users/1/recommendations?k=3", headers={"x-request-id": given})
    await services.journal.flush()
    with database.begin() as connection:
        row = connection.execute(
            text("SELECT * FROM impressions WHERE request_id = :id"), {"id": given}
        ).one()
    assert (row.user_id, row.bundle, row.surface, row.tier) == (
        1,
        champion.key,
        "recommendations",
        "personal",
    )
    assert len(row.item_ids) == len(row.scores) == 3
    assert row.duration_ms > 0


async def test_popular_films_vary_with_the_dial_and_pins_stay_first(champion, client, services):
    async def popular(**query):
        response = await client.get("/v1/popular", params={"k": 12, **query})
        assert response.status_code == 200, response.text
        return response.json()["items"]

    plain, varied = await popular(), await popular(diversity=1)
    assert [item["item_id"] for item in varied] != [item["item_id"] for item in plain]
    assert len({item["item_id"] for item in varied}) == 12
    assert {genre for item in varied for genre in item["genres"]} == {"Drama", "Comedy", "Action", "Horror"}
    assert await popular(diversity=0) == plain
    pinned = plain[-1]["item_id"]
    assert (await client.patch(f"/v1/items/{pinned}", json={"pin": True})).status_code == 200
    await services.stock()
    again = await popular(diversity=1)
    assert again[0]["item_id"] == pinned
    assert len({item["item_id"] for item in again}) == 12
    assert [item["item_id"] for item in await popular(diversity=1, k=1)] == [pinned]
