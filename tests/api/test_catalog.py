import asyncio
import json
from datetime import UTC, datetime

import httpx
import polars as pl
import psycopg
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from marquee.api import cursors
from marquee.api.schemas.catalog import NewItem, NewItems
from marquee.config import Settings
from marquee.ingest.load import Intake
from marquee.ingest.validate import check_items
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database

pytestmark = pytest.mark.integration

FIRST_ID = 27205
OWN = {
    "item_id": 9_000_001,
    "title": "Evening at the Harbour",
    "release_date": "2026-10-01",
    "runtime_minutes": 93,
    "genres": ["Drama"],
    "people": ["Min Seo"],
    "original_language": "ko",
    "overview": "Two strangers miss the last ferry.",
    "poster_path": "https://example.org/harbour.jpg",
    "popularity": 3.5,
    "texts": {"ko": {"title": "항구의 저녁", "tagline": "막배는 떠났다."}},
}


async def put(client: httpx.AsyncClient, *films: dict) -> dict:
    response = await client.put("/v1/items", json={"items": films})
    assert response.status_code == 200, response.text
    return response.json()


async def listed(client: httpx.AsyncClient, **asked) -> list[int]:
    response = await client.get("/v1/items", params=asked)
    assert response.status_code == 200, response.text
    return [film["item_id"] for film in response.json()["items"]]


def problem(response: httpx.Response, status: int) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def full(postgres, tmp_path_factory, running):
    """A client of an application with 30 films, shared by tests that change nothing."""
    home = tmp_path_factory.mktemp("home")
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_catalog TEMPLATE template_marquee")
    async with running(Settings(home=home, database={"url": postgres.url_of("test_catalog")})) as (client, _):
        films = [
            {**OWN, "item_id": i, "title": f"Harbour {i % 7}", "runtime_minutes": 80 + i, "popularity": i % 4}
            for i in range(1, 31)
        ]
        await put(client, *films)
        yield client


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("limit", [7, 30, 31])
@pytest.mark.parametrize(
    "asked",
    [{}, {"q": "harbour"}, {"q": "harbuor 3"}, {"q": "h", "sort": "popularity"}, {"sort": "newest"},
     {"sort": "title", "lang": "ko"}, {"q": "항", "sort": "title"}],
)  # fmt: skip
async def test_pages_of_any_length_hold_every_film_once(full, asked, limit):
    whole = await listed(full, **asked, limit=100)
    paged, cursor = [], {}
    while True:
        page = (await full.get("/v1/items", params={**asked, **cursor, "limit": limit})).json()
        paged += [film["item_id"] for film in page["items"]]
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == limit
        cursor = {"cursor": page["next_cursor"]}
    assert paged == whole
    assert len(set(whole)) == 30


@pytest.mark.asyncio(loop_scope="module")
@given(cursor=st.text(max_size=40) | st.binary(max_size=40).map(lambda made: cursors.encode(made, ())))
@settings(max_examples=50)
async def test_cursor_that_is_none_of_ours_is_refused(full, cursor):
    found = problem(await full.get("/v1/items", params={"cursor": cursor}), 422)
    assert found["errors"][0]["field"] == "query.cursor"


@pytest.mark.asyncio(loop_scope="module")
async def test_cursor_of_another_question_is_refused(full):
    cursor = (await full.get("/v1/items", params={"q": "harbour", "limit": 3})).json()["next_cursor"]
    for change in (
        {"q": "harbou"},
        {"sort": "title"},
        {"lang": "ko"},
        {"genre": "Drama"},
        {"max_runtime": 100},
    ):
        asked = {"q": "harbour", "limit": 3, "cursor": cursor}
        problem(await full.get("/v1/items", params={**asked, **change}), 422)
    response = await full.get("/v1/items", params={"q": "harbour", "limit": 5, "cursor": cursor})
    assert response.status_code == 200


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"q": "\0"}, "query.q"),
        ({"q": "x" * 201}, "query.q"),
        ({"sort": "best"}, "query.sort"),
        ({"limit": 0}, "query.limit"),
        ({"limit": 101}, "query.limit"),
        ({"year_from": 0}, "query.year_from"),
        ({"year_to": 10_000}, "query.year_to"),
        ({"genre": ["Drama", "\0"]}, "query.genre.1"),
        ({"lang": "korean language"}, "query.lang"),
        ({"max_runtime": "long"}, "query.max_runtime"),
    ],
)
async def test_wrong_parameter_is_named(full, asked, field):
    found = problem(await full.get("/v1/items", params=asked), 422)
    assert found["errors"][0]["field"] == field


async def test_search_and_filters(deployed, client):
    assert (await listed(client, q="film 27210"))[0] == 27210
    assert (await listed(client, q="27206", genre="comedy"))[0] == 27206
    assert 27206 not in await listed(client, q="27206", genre="drama")
    assert await listed(client, max_runtime=81) == [FIRST_ID, FIRST_ID + 1]
    assert len(await listed(client, genre=["Drama", "horror"], limit=100)) == 30
    film = (await client.get("/v1/items", params={"q": "film 27206"})).json()["items"][0]
    assert film["poster_url"] == "https://image.tmdb.org/t/p/w500/poster27206.jpg"
    assert (film["overview"], film["genres"], film["year"]) == ("What happens in 27206.", ["Comedy"], None)


async def test_film_that_an_editor_writes_is_shown_whole(client):
    assert await put(client, OWN) == {"inserted": 1, "updated": 0, "unchanged": 0}
    assert await put(client, OWN) == {"inserted": 0, "updated": 0, "unchanged": 1}
    film = (await client.get("/v1/items/9000001", params={"lang": "ko"})).json()
    assert (film["title"], film["tagline"], film["overview"]) == (
        "항구의 저녁",
        "막배는 떠났다.",
        OWN["overview"],
    )
    assert (film["source"], film["poster_url"], film["languages"]) == ("editor", OWN["poster_path"], ["ko"])
    assert (film["year"], film["popularity"], film["people"]) == (2026, 3.5, ["Min Seo"])
    assert await listed(client, q="항구") == await listed(client, q="evening harbor") == [9_000_001]
    changed = {**OWN, "title": "Night at the Harbour", "texts": {"en": {"title": "Harbour"}}}
    assert await put(client, OWN, changed) == {"inserted": 0, "updated": 1, "unchanged": 1}
    film = (await client.get("/v1/items/9000001")).json()
    assert (film["title"], film["languages"]) == ("Night at the Harbour", ["en", "ko"])


async def test_editors_word_wins_over_every_source(client, database: Database, tmp_path):
    def ingest(popularity: float) -> None:
        intake = Intake(database, ObjectStore(tmp_path / "objects"), "tmdb", now=datetime.now(UTC))
        film = {"item_id": 9_000_001, "title": "TMDB's title", "popularity": popularity}
        texts = [{"item_id": 9_000_001, "language": "ko", "title": "티엠디비"}]
        intake.items([film], texts=texts, observed_at=datetime.now(UTC))

    await asyncio.to_thread(ingest, 1.0)
    assert (await client.get("/v1/items/9000001")).json()["title"] == "TMDB's title"
    await put(client, {**OWN, "popularity": None})
    await asyncio.to_thread(ingest, 2.0)
    film = (await client.get("/v1/items/9000001", params={"lang": "ko"})).json()
    assert (film["title"], film["source"], film["popularity"]) == ("항구의 저녁", "editor", 2.0)
    assert (await client.delete("/v1/items/9000001")).status_code == 204
    await asyncio.to_thread(ingest, 3.0)
    assert problem(await client.get("/v1/items/9000001"), 404)["type"] == "/problems/unknown-item"
    assert await listed(client) == []
    assert (await client.delete("/v1/items/9000001")).status_code == 204
    await put(client, OWN)
    assert await listed(client) == [9_000_001]


async def test_choices_of_editors_stay_until_they_are_changed(client):
    await put(client, OWN)
    path = f"/v1/items/{OWN['item_id']}"
    assert (await client.patch(path, json={"pin": True, "boost": 1.5})).json()["pin"] is True
    await put(client, {**OWN, "title": "Another"})
    film = (await client.patch(path, json={"block": True})).json()
    assert (film["title"], film["pin"], film["block"], film["boost"]) == ("Another", True, True, 1.5)
    assert await listed(client) == []
    film = (await client.patch(path, json={"block": False, "pin": False, "boost": 1})).json()
    assert (film["pin"], film["block"], film["boost"]) == (False, False, 1.0)
    assert await listed(client) == [OWN["item_id"]]


@pytest.mark.parametrize(
    "body",
    [{}, {"pin": None}, {"pin": "yes!"}, {"boost": 99}, {"boost": "NaN"}, {"pin": True, "colour": "red"}],
)
async def test_choice_that_says_nothing_or_nonsense_is_refused(client, body):
    await put(client, OWN)
    problem(await client.patch("/v1/items/9000001", json=body), 422)
    problem(await client.patch("/v1/items/9000002", json={"pin": True}), 404)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"item_id": 0}, "item_id"),
        ({"item_id": "1"}, "item_id"),
        ({"item_id": 2**63}, "item_id"),
        ({"title": " "}, "title"),
        ({"title": "a\0b"}, "title"),
        ({"title": "\ud800"}, "title"),
        ({"runtime_minutes": -1}, "runtime_minutes"),
        ({"release_date": "soon"}, "release_date"),
        ({"genres": "Drama"}, "genres"),
        ({"popularity": -1}, "popularity"),
        ({"texts": {"not a language": {}}}, "texts"),
        ({"overveiw": "typo"}, "overveiw"),
    ],
)
async def test_film_that_breaks_the_contract_is_refused_with_its_field(client, change, field):
    content = json.dumps({"items": [OWN, {**OWN, **change}]})
    response = await client.put("/v1/items", content=content, headers={"content-type": "application/json"})
    found = problem(response, 422)
    assert found["errors"][0]["field"].startswith(f"body.items.1.{field}")
    assert await listed(client) == []


async def test_none_or_too_many_films_are_refused(client):
    problem(await client.put("/v1/items", json={"items": []}), 422)
    film = {"item_id": 1, "title": "x"}
    problem(await client.put("/v1/items", json={"items": [film] * 1_001}), 422)
    assert (await put(client, *[film] * 1_000)) == {"inserted": 1, "updated": 0, "unchanged": 999}


@given(
    st.fixed_dictionaries(
        {"item_id": st.integers(-1, 2**63), "title": st.text(max_size=8)},
        optional={
            "original_title": st.text(max_size=8),
            "release_date": st.dates().map(str),
            "runtime_minutes": st.integers(-1, 100_001),
            "genres": st.lists(st.text(max_size=5), max_size=3),
            "collection_id": st.integers(-(2**64), 2**64),
            "overview": st.text(max_size=8),
            "popularity": st.floats(),
            "vote_average": st.floats(-1, 11),
            "vote_count": st.integers(-1, 2**31),
        },
    )
)
def test_what_the_api_accepts_every_other_way_in_accepts_too(film):
    try:
        (accepted,) = NewItems(items=[NewItem(**film)]).items
    except ValidationError:
        return
    row = accepted.model_dump(mode="json", exclude={"texts"}, exclude_none=True)
    checked = check_items(pl.DataFrame([row]))
    assert len(checked.good) == 1, checked.rejected["reason"].to_list()
    stored = checked.good.row(0, named=True)
    for name, value in accepted.model_dump(exclude={"texts"}, exclude_none=True).items():
        assert stored[name] == (pytest.approx(value) if isinstance(value, float) else value), name


async def test_every_change_is_told_to_all_processes(client, database: Database):
    with psycopg.connect(database.url, autocommit=True) as listening:
        listening.execute("LISTEN marquee_items")
        for request in (
            ("PUT", "/v1/items", {"items": [OWN]}),
            ("PUT", "/v1/items", {"items": [{**OWN, "texts": {"fr": {"title": "Soir"}}}]}),
            ("PATCH", "/v1/items/9000001", {"pin": True}),
            ("DELETE", "/v1/items/9000001", None),
        ):
            method, path, body = request
            assert (await client.request(method, path, json=body)).status_code < 300
            assert list(listening.notifies(timeout=10, stop_after=1)), request
