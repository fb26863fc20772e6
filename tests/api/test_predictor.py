import asyncio
import json
from datetime import UTC, datetime

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert
from stored_events import append_events

from marquee.api.hot import HotCall, PassOn
from marquee.api.predictor import HOT
from marquee.data import Event, RankedItems
from marquee.store import tables
from marquee.store.repositories import recommendations
from marquee.store.repositories.interactions import NewEvent

pytestmark = pytest.mark.integration

FIRST_ID, N_ITEMS = 27205, 60
VIEWING = {"user_id": 1, "content_id": FIRST_ID, "watch_seconds": 5400, "rating": 8.5, "popularity": 20.0}


def append(database, user_id, item_id, event, **values):
    with database.begin() as connection:
        new = NewEvent(user_id, item_id, event, f"{user_id}-{item_id}-{event}", datetime.now(UTC), **values)
        append_events(connection, [new])


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
    rest = trained.mlp.items.ids.tolist()[3:]
    with database.begin() as connection:
        watched = [NewEvent(5, item_id, Event.WATCH, str(item_id), datetime.now(UTC)) for item_id in rest]
        append_events(connection, watched)
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
        values = {"user_id": 1, "item_id": 1, "item_ids": [27206, 424242], "scores": [0.5, 0.4]}
        connection.execute(insert(tables.predictions).values(**values, bundle="older"))
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


async def test_concurrent_predictions_are_all_kept(deployed, client, services, database):
    bodies = [{**VIEWING, "user_id": user} for user in range(40)]
    answers = await asyncio.gather(*(client.post("/predict", json=body) for body in bodies))
    assert {response.status_code for response in answers} == {200}
    await services.journal.flush()
    with database.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM predictions").scalar_one() == 40


# fmt: off
NUMBERS = ["0", "-0", "1", "-1", "00", "1.", ".5", "1.0", "8.5", "-0.0", "1e0", "1E2", "10", "10.5", "27206",
    "5e-324", "9223372036854775807", "9223372036854775808", "1e400", "NaN", "Infinity", "-Infinity", "1e7",
    "10000001", "123456789012345678901234567890"]
# fmt: on
VALUES = st.sampled_from([*NUMBERS, "true", "null", '"5"', '"\\ud800"', "[]", "{}", "[1]", "\x00", ""])
MEMBERS = st.tuples(st.sampled_from([*VIEWING, "k", "surprise", "user\\u005fid", "\\ud800"]), VALUES)
SPACES = st.sampled_from(["", " ", "\n\t", "\ufeff", "\x0b"])


@st.composite
def bodies(draw):
    """A valid body with members replaced, repeated, added or left out, as text."""
    members = [(name, json.dumps(value)) for name, value in VIEWING.items()]
    members = draw(st.permutations(members))[draw(st.sampled_from([0, 0, 0, 1])) :]
    members += draw(st.lists(MEMBERS, max_size=2))
    space, encoding = draw(SPACES), draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-32-le"]))
    text = space + "{" + ",".join(f'"{name}"{space}:{space}{value}' for name, value in members) + "}" + space
    return text.encode(encoding)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies())
async def test_hot_road_answers_every_body_as_the_framework_does(deployed, client, body):
    hot = await client.post("/predict", content=body, headers={"content-type": "application/json"})
    # Types are compared without regard to case, but only this spelling is hot.
    slow = await client.post("/predict", content=body, headers={"content-type": "Application/JSON"})
    assert (hot.status_code, hot.content) == (slow.status_code, slow.content)
    assert hot.headers["content-type"] == slow.headers["content-type"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rating=st.floats(0, 10),
    watch_seconds=st.floats(0, 1e7),
    popularity=st.floats(0, 1e9),
    k=st.integers(1, 100),
    user_id=st.integers(0, 2**63 - 1),
    content_id=st.integers(FIRST_ID, FIRST_ID + N_ITEMS - 1),
)
async def test_hot_road_gives_valid_bodies_the_answer_of_the_framework(deployed, client, **viewing):
    hot = await client.post("/predict", json=viewing)
    slow = await client.post(
        "/predict", content=json.dumps(viewing), headers={"content-type": "Application/JSON"}
    )
    assert (hot.status_code, hot.content) == (slow.status_code, slow.content)
    assert hot.status_code in {200, 404}


@pytest.mark.parametrize(
    "query", ["", "k=1", "k=37", "k=100", "k=0", "k=101", "k=07", "k=%31", "k=5&k=6", "j=5"]
)
async def test_hot_latest_recommendations_are_those_of_the_framework(deployed, services, client, query):
    await client.post("/predict", json={**VIEWING, "k": 50})
    hot = await client.get(f"/latest-recommendations?{query}")
    slow = await client.get(f"/latest-recommendations?{query}&unknown=1")
    assert (hot.status_code, hot.content) == (slow.status_code, slow.content)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([(b"content-type", b"application/json")], b"{}"),
        ([(b"content-type", b"text/plain")], orjson.dumps(VIEWING)),
        ([], orjson.dumps(VIEWING)),
    ],
    ids=["invalid", "other-type", "no-type"],
)
async def test_hot_prediction_passes_on_what_is_out_of_the_ordinary(deployed, services, headers, body):
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
    handler = next(route.handler for route in HOT if route.path == "/predict")
    with pytest.raises(PassOn):
        await handler(HotCall(services, scope, (), b"", body))
    typed = {**scope, "headers": [(b"content-type", b"application/json; charset=utf-8")]}
    reply = await handler(HotCall(services, typed, (), b"", orjson.dumps(VIEWING)))
    assert orjson.loads(reply.body).keys() == {"user_id", "recommendations"}


async def test_concurrent_predictions_are_those_of_single_requests(deployed, client, database, trained):
    rng = np.random.default_rng(0)
    watched = [
        NewEvent(user_id, item_id, Event.WATCH, f"{user_id}-{n}", datetime.now(UTC))
        for user_id in range(1, 20)
        for n, item_id in enumerate(rng.choice(trained.mlp.items.ids, user_id).tolist())
    ]
    with database.begin() as connection:
        append_events(connection, watched)
    viewings = [
        {
            "user_id": int(rng.integers(1, 20)),
            "content_id": int(rng.choice(trained.mlp.items.ids)),
            "watch_seconds": float(rng.uniform(60, 9000)),
            "rating": float(rng.uniform(0, 10)),
            "popularity": float(rng.uniform(1, 100)),
            "k": int(rng.integers(1, 101)),
        }
        for _ in range(200)
    ]
    together = await asyncio.gather(*(client.post("/predict", json=viewing) for viewing in viewings))
    assert {response.status_code for response in together} == {200}
    for viewing, response in zip(viewings, together, strict=True):
        assert (await client.post("/predict", json=viewing)).content == response.content


async def test_one_failing_request_of_a_batch_fails_alone(deployed, client):
    unknown = {**VIEWING, "content_id": 999_999}
    answers = await asyncio.gather(
        *(client.post("/predict", json=unknown if i % 3 == 0 else VIEWING) for i in range(30))
    )
    assert [response.status_code for response in answers] == [404 if i % 3 == 0 else 200 for i in range(30)]
