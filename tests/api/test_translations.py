"""Cards in other languages: made from texts in memory, only when asked for."""

import orjson
import pyarrow as pa
import pytest
from sqlalchemy import text

from marquee.api.translations import Translations
from marquee.store.repositories import items

FIRST_ID = 27205

TEXTS = pa.Table.from_pylist(
    [
        {"language": "ko", "item_id": 1, "title": "하나", "overview": "첫째.", "poster_path": "/ko1.jpg"},
        {"language": "ko", "item_id": 3, "title": "셋", "overview": None, "poster_path": None},
        {"language": "pt", "item_id": 1, "title": "Um", "overview": None, "poster_path": None},
        {"language": "pt-BR", "item_id": 3, "title": "Três", "overview": None, "poster_path": None},
    ]
)
CARD = orjson.dumps({"content_id": 1, "title": "One", "poster_url": None, "overview": "The first."})
MEMBERS = b'"item_id":3,"title":"Three","year":1999,"overview":"The third.","poster_url":"p"'


@pytest.fixture
def translations():
    return Translations(TEXTS)


def test_text_replaces_what_it_has_and_nothing_else(translations):
    korean = translations.find("ko")
    assert orjson.loads(korean.card(1, CARD)) == {
        "content_id": 1,
        "title": "하나",
        "poster_url": "https://image.tmdb.org/t/p/w500/ko1.jpg",
        "overview": "첫째.",
    }
    assert korean.card(3, MEMBERS) == MEMBERS.replace(b"Three", "셋".encode())


def test_item_without_text_keeps_its_card(translations):
    assert translations.find("ko").card(2, CARD) is CARD


def test_region_falls_back_to_its_language_item_by_item(translations):
    brazil = translations.find("pt-BR")
    assert orjson.loads(brazil.card(3, b"{%b}" % MEMBERS))["title"] == "Três"
    assert orjson.loads(brazil.card(1, CARD))["title"] == "Um"
    assert translations.find("ko-KR") is translations.find("ko")


@pytest.mark.parametrize("language", [None, "", "fr", "fr-CA", "KO"])
def test_language_without_any_text_is_no_translation(translations, language):
    assert translations.find(language) is None
    assert Translations().find("ko") is None


def test_card_is_made_once(translations):
    korean = translations.find("ko")
    assert korean.card(1, CARD) is korean.card(1, CARD)


def test_memory_for_cards_is_bounded():
    translations = Translations(TEXTS, most_bytes=1_000)
    korean = translations.find("ko")
    for n in range(100):
        korean.card(1, orjson.dumps({"title": "One", "n": n}))
        kept = translations._made.items()
        assert sum(len(origin) + len(made) for (_, origin), made in kept) <= 1_000


def test_whole_answer_of_contents(translations):
    body = orjson.dumps(
        {"available_contents": [{"content_id": i, "title": f"{i}", "poster_url": None} for i in (1, 2, 3)]}
    )
    answer = orjson.loads(translations.find("ko").contents(body))["available_contents"]
    assert [content["title"] for content in answer] == ["하나", "2", "셋"]
    assert "overview" not in answer[0]


@pytest.fixture
def settings(settings):
    """A busy machine changes no list."""
    return settings.model_copy(update={"api": settings.api.model_copy(update={"deadline_ms": 5_000})})


@pytest.fixture
def korean(deployed, database):
    """Korean titles of all films but the first."""
    rows = [
        {"item_id": i, "language": "ko", "title": f"영화 {i}", "overview": f"{i}의 이야기."}
        for i in range(FIRST_ID + 1, FIRST_ID + 60)
    ]
    with database.begin() as connection:
        items.upsert_texts(connection, pa.Table.from_pylist(rows))


async def shown(client, path, **query):
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.integration
@pytest.mark.parametrize(
    "path", ["/v1/users/1/recommendations", f"/v1/items/{FIRST_ID}/similar", "/v1/popular"]
)
async def test_lists_are_shown_in_a_language_and_are_the_same_lists(korean, client, path):
    plain = (await shown(client, path, k=60))["items"]
    translated = (await shown(client, path, k=60, lang="ko-KR"))["items"]
    assert [item["item_id"] for item in translated] == [item["item_id"] for item in plain]
    for one, other in zip(plain, translated, strict=True):
        i = one["item_id"]
        words = {"title": f"영화 {i}", "overview": f"{i}의 이야기."} if i != FIRST_ID else {}
        assert other == one | words
    assert (await shown(client, path, k=60, lang="fr"))["items"] == plain


@pytest.mark.integration
async def test_reasons_are_shown_in_the_language(korean, client):
    body = {"events": [{"item_id": FIRST_ID + 4, "event": "like"}], "k": 3, "explain": True, "lang": "ko"}
    listed = (await client.post("/v1/recommendations", json=body)).json()
    because = [reason for item in listed["items"] for reason in item["reasons"]["because"]]
    assert {film["title"] for film in because} <= {f"영화 {FIRST_ID + 4}"}
    batch = {"user_ids": [1, 2], "lang": "ko", "exclude": [FIRST_ID]}
    lists = (await client.post("/v1/recommendations/batch", json=batch)).json()["lists"]
    titles = [item["title"] for one in lists for item in one["items"]]
    assert all(title.startswith("영화") for title in titles)


@pytest.mark.integration
async def test_predictor_answers_in_the_language(korean, client, services):
    viewing = {"user_id": 1, "content_id": FIRST_ID, "watch_seconds": 600, "rating": 8, "popularity": 9}
    plain = (await client.post("/predict", json=viewing)).json()["recommendations"]
    translated = (await client.post("/predict", json={**viewing, "lang": "ko"})).json()["recommendations"]
    assert [film["title"] for film in translated] == [f"영화 {film['content_id']}" for film in plain]
    contents = (await shown(client, "/available-contents", lang="ko"))["available_contents"]
    named = {film["content_id"]: film["title"] for film in contents}
    assert named.pop(FIRST_ID) == f"Film {FIRST_ID}"
    assert named == {i: f"영화 {i}" for i in named}
    assert (await shown(client, "/available-contents", lang="fr")) == await shown(
        client, "/available-contents"
    )


@pytest.mark.integration
@pytest.mark.parametrize("query", ["k=3&lang=ko", "lang=ko", "lang=ko&k=3"])
async def test_latest_recommendations_are_shown_in_the_language(korean, client, query):
    viewing = {"user_id": 1, "content_id": FIRST_ID, "watch_seconds": 600, "rating": 8, "popularity": 9}
    await client.post("/predict", json=viewing)
    plain = (await shown(client, "/latest-recommendations", k=3))["recent_recommendations"]
    translated = (await client.get(f"/latest-recommendations?{query}")).json()["recent_recommendations"]
    assert [film["title"] for film in translated[:3]] == [f"영화 {film['content_id']}" for film in plain]
    assert plain[0]["title"].startswith("Film")


@pytest.mark.integration
async def test_without_the_database_the_language_is_still_known(korean, client, services):
    services.lost("a test")
    films = await shown(client, "/latest-recommendations", lang="ko")
    assert any(film["title"].startswith("영화") for film in films["recent_recommendations"])


@pytest.mark.integration
async def test_text_that_changes_is_shown_without_a_restart(korean, client, services, database):
    with database.begin() as connection:
        before = items.version(connection)
        connection.execute(text("UPDATE item_texts SET title = '다른 영화'"))
    with database.begin() as connection:
        assert items.version(connection) != before
    await services.stock()
    listed = await shown(client, "/v1/popular", lang="ko", exclude=FIRST_ID)
    assert {film["title"] for film in listed["items"]} == {"다른 영화"}


@pytest.mark.integration
@pytest.mark.parametrize("lang", ["k", "ko_KR", "한국어", "ko-" + "x" * 40])
async def test_what_is_no_language_is_refused(korean, client, lang):
    for path in (
        "/v1/popular",
        "/v1/users/1/recommendations",
        "/latest-recommendations",
        "/available-contents",
    ):
        assert (await client.get(path, params={"lang": lang})).status_code == 422
