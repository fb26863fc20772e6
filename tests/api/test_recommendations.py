import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest

from marquee.data import Event, RankedItems
from marquee.store.repositories import interactions, predictions, recommendations
from marquee.store.repositories.interactions import NewEvent

pytestmark = pytest.mark.integration

FIRST_ID, N_ITEMS = 27205, 60
VIEWING = {"user_id": 1, "content_id": FIRST_ID, "watch_seconds": 5400, "rating": 8.5, "popularity": 20.0}


def append(database, user_id, item_id, event, **values):
    with database.begin() as connection:
        new = NewEvent(user_id, item_id, event, f"{user_id}-{item_id}-{event}", datetime.now(UTC), **values)
        interactions.append_events(connection, [new])


async def test_available_content_ids_are_the_trained_vocabulary(deployed, trained, client):
    answer = (await client.get("/available-content-ids")).json()
    assert answer == {
        "count": len(trained.mlp.items),
        "available_content_ids": trained.mlp.items.ids.tolist(),
    }


async def test_available_contents_have_title_and_poster(deployed, trained, client):
    contents = (await client.get("/available-contents")).json()["available_contents"]
    assert [film["content_id"] for film in contents] == trained.mlp.items.ids.tolist()
    by_id = {film["content_id"]: film for film in contents}
    assert by_id[FIRST_ID] == {"content_id": FIRST_ID, "title": "Film 27205", "poster_url": None}
    assert by_id[27206]["poster_url"] == "https://image.tmdb.org/t/p/w500/poster27206.jpg"


async def test_prediction_has_k_distinct_cards_without_the_film_itself(deployed, client):
    response = await client.post("/predict", json={**VIEWING, "k": 7})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert "x-marquee-degraded" not in response.headers
    answer = response.json()
    assert answer.keys() == {"user_id", "recommendations"}
    assert answer["user_id"] == 1
    ids = [film["content_id"] for film in answer["recommendations"]]
    assert len(set(ids)) == 7
    assert FIRST_ID not in ids
    for film in answer["recommendations"]:
        i = film["content_id"]
        poster = None if i == FIRST_ID else f"https://image.tmdb.org/t/p/w500/poster{i}.jpg"
        assert film == {
            "content_id": i,
            "title": f"Film {i}",
            "poster_url": poster,
            "overview": f"What happens in {i}.",
        }


async def test_prediction_is_what_the_model_finds_most_probable(deployed, trained, client):
    films = (await client.post("/predict", json=VIEWING)).json()["recommendations"]
    scores = trained.mlp.predict(rating=8.5, popularity=20.0, watch_seconds=5400)[0]
    order = trained.mlp.items.ids[np.argsort(-scores, kind="stable")]
    assert [film["content_id"] for film in films] == [i for i in order.tolist() if i != FIRST_ID][:10]


async def test_prediction_leaves_out_seen_hidden_and_disliked_but_not_clicked(deployed, client, database):
    first = [f["content_id"] for f in (await client.post("/predict", json=VIEWING)).json()["recommendations"]]
    watched, hidden, disliked, clicked = first[:4]
    append(database, 1, watched, Event.WATCH, watch_seconds=60.0)
    append(database, 1, hidden, Event.HIDE)
    append(database, 1, disliked, Event.RATE, rating=2.0)
    append(database, 1, clicked, Event.CLICK)
    then = [f["content_id"] for f in (await client.post("/predict", json=VIEWING)).json()["recommendations"]]
    assert then[0] == clicked
    assert not {watched, hidden, disliked} & set(then)
    assert len(then) == 10
    other = (await client.post("/predict", json={**VIEWING, "user_id": 2})).json()["recommendations"]
    assert [film["content_id"] for film in other] == first


async def test_prediction_of_a_user_who_saw_almost_everything_is_shorter(deployed, client, database, trained):
    for item_id in trained.mlp.items.ids.tolist()[3:]:
        append(database, 5, item_id, Event.WATCH)
    answer = (await client.post("/predict", json={**VIEWING, "user_id": 5, "k": 100})).json()
    left = set(trained.mlp.items.ids.tolist()[:3]) - {FIRST_ID}
    assert {film["content_id"] for film in answer["recommendations"]} == left


async def test_two_hundred_inputs_give_at_least_a_hundred_answers(deployed, client, trained):
    rng = np.random.default_rng(0)
    answers = set()
    for _ in range(200):
        viewing = {
            "user_id": int(rng.integers(1, 50)),
            "content_id": int(rng.choice(trained.mlp.items.ids)),
            "watch_seconds": float(rng.uniform(60, 9000)),
            "rating": float(rng.uniform(0, 10)),
            "popularity": float(rng.uniform(1, 100)),
        }
        films = (await client.post("/predict", json=viewing)).json()["recommendations"]
        answers.add(tuple(film["content_id"] for film in films))
    assert len(answers) >= 100


async def test_unknown_content_is_a_404_that_names_it(deployed, client):
    response = await client.post("/predict", json={**VIEWING, "content_id": 999_999})
    assert response.status_code == 404
    problem = response.json()
    assert problem["type"] == "/problems/unknown-content"
    assert "999999" in problem["detail"]
    assert "/available-content-ids" in problem["fix"]


async def test_prediction_is_shown_at_once_by_latest_recommendations(deployed, client):
    for watch_seconds in (100, 7000):
        predicted = (
            await client.post("/predict", json={**VIEWING, "watch_seconds": watch_seconds, "k": 3})
        ).json()
        latest = (await client.get("/latest-recommendations", params={"k": 3})).json()
        assert latest == {"recent_recommendations": predicted["recommendations"]}


async def test_latest_recommendations_are_filled_from_the_batch_without_duplicates(
    deployed, client, database
):
    ids = np.arange(FIRST_ID, FIRST_ID + 8)
    batch = np.stack([ids, ids[::-1]])
    with database.begin() as connection:
        recommendations.replace_all(
            connection, np.array([1, 2]), RankedItems(batch, np.ones((2, 8), np.float32)), bundle="b"
        )
    predicted = (await client.post("/predict", json={**VIEWING, "k": 2})).json()["recommendations"]
    latest = (await client.get("/latest-recommendations", params={"k": 6})).json()["recent_recommendations"]
    found = [film["content_id"] for film in latest]
    assert latest[:2] == predicted
    assert len(found) == len(set(found)) == 6
    assert set(found[2:]) <= set(ids.tolist())


async def test_latest_recommendations_take_cards_of_other_items_from_the_catalogue(
    catalogue, client, database
):
    with database.begin() as connection:
        predictions.append(
            connection,
            user_id=1,
            item_id=1,
            rating=None,
            watch_seconds=None,
            popularity=None,
            item_ids=[27206, 424242],
            scores=[0.5, 0.4],
            bundle="older",
        )
    latest = (await client.get("/latest-recommendations")).json()["recent_recommendations"]
    assert [film["title"] for film in latest] == ["Film 27206"]


async def test_latest_recommendations_of_an_empty_database_are_empty(client):
    response = await client.get("/latest-recommendations")
    assert response.status_code == 200
    assert response.json() == {"recent_recommendations": []}


@pytest.mark.parametrize("path", ["/available-content-ids", "/available-contents", "/predict"])
async def test_without_a_model_the_answer_is_503_with_what_to_run(client, path):
    response = await (client.post(path, json=VIEWING) if path == "/predict" else client.get(path))
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert "retry-after" in response.headers
    assert response.json()["type"] == "/problems/no-model"
    assert "marquee pipeline run" in response.json()["fix"]


async def test_concurrent_predictions_are_all_kept(deployed, client, database):
    bodies = [{**VIEWING, "user_id": user} for user in range(40)]
    answers = await asyncio.gather(*(client.post("/predict", json=body) for body in bodies))
    assert {response.status_code for response in answers} == {200}
    with database.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM predictions").scalar_one() == 40
