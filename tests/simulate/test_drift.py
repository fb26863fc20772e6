"""How the world of an audience changes, without an API."""

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Catalog
from marquee.simulate import Audience, AudienceConfig, DriftConfig, LiveConfig, World
from marquee.simulate.drift import FASHIONS, FIRST_RELEASE, drifted
from marquee.simulate.truth import runtime_seconds

N_ITEMS = 60
KINDS = ("taste", "releases", "popularity", "feed")
EVENTS = [
    {"event": "view"},
    {"event": "click", "item_id": 3},
    {"event": "watch", "item_id": 3, "watch_seconds": 900},
    {"event": "rate", "item_id": 3, "rating": 7.5},
]


@pytest.fixture(scope="module")
def world():
    genres = ["Drama", "Comedy", "Action", "Horror", "Crime"]
    catalog = Catalog(
        pa.table(
            {
                "item_id": np.arange(N_ITEMS),
                "title": [f"Film {i}" for i in range(N_ITEMS)],
                "genres": [[genres[int(np.sqrt(i)) % 5]] for i in range(N_ITEMS)],
                "release_date": [date(2020 + i % 5, 1, 1) for i in range(N_ITEMS)],
                "runtime_minutes": pa.array(80 + np.arange(N_ITEMS), pa.int32()),
            }
        )
    )
    audience = AudienceConfig(users=200, seed=1)
    truth = Audience(catalog, np.linspace(1, 100, N_ITEMS), audience).truth()
    return World(truth, audience, runtime_seconds(catalog))


def after(world, kind, strength=0.8):
    return drifted(world, DriftConfig(kind, strength=strength))[0]


def watched(world, n=400):
    """What visitors watch who see no list; 80 % of those of a world with a talk come for it."""
    random = np.random.default_rng(0)
    users = [1 + i % world.audience.users for i in range(n)]
    return np.array([world.come_for(user, random) or world.find_elsewhere(user, random) for user in users])


@pytest.mark.parametrize("kind", KINDS)
def test_same_change_twice_is_the_same(world, kind):
    (first, films), (second, again) = (drifted(world, DriftConfig(kind)) for _ in range(2))
    assert films == again
    assert watched(first).tolist() == watched(second).tolist()
    assert first.reported(7, EVENTS) == second.reported(7, EVENTS)


@pytest.mark.parametrize("kind", KINDS)
def test_world_before_the_change_stays_as_it_was(world, kind):
    tastes, shelf = world.truth.tastes.copy(), world.truth.shelf.copy()
    after(world, kind)
    assert (world.truth.tastes == tastes).all()
    assert (world.truth.shelf == shelf).all()


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_tastes_move_to_genres_in_fashion_and_stay_shares(world, strength):
    before, now = world.truth.genre_tastes, after(world, "taste", strength).truth.genre_tastes
    assert now.sum(axis=1) == pytest.approx(1, abs=1e-5)
    gained = now.mean(axis=0) - before.mean(axis=0)
    assert (gained > 0.1 * strength).sum() == FASHIONS
    assert gained[before.mean(axis=0).argmax()] < -0.1 * strength
    assert now.max(axis=1).min() >= strength - 1e-5
    assert after(world, "taste", strength).truth.exposure.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_moved_tastes_are_what_is_watched_and_measured(world):
    now, users = after(world, "taste", 1.0), world.truth.users.ids
    shown = np.array([world.truth.items.ids[row.argmax()] for row in world.truth.affinity(users)])
    before_mean = np.mean([world.affinity(u, [i])[0] for u, i in zip(users, shown, strict=True)])
    assert np.mean([now.affinity(u, [i])[0] for u, i in zip(users, shown, strict=True)]) < before_mean - 0.2
    films = watched(now)
    assert np.mean([now.affinity(1 + i % 200, [item])[0] for i, item in enumerate(films)]) > 0.4


def test_new_films_are_watched_by_those_who_like_them(world):
    begun = datetime.now(UTC).date()
    now, films = drifted(world, DriftConfig("releases"))
    ids = np.array([film["item_id"] for film in films])
    assert len(ids) == N_ITEMS // 20
    assert ids.min() >= FIRST_RELEASE
    assert all(date.fromisoformat(film["release_date"]) >= begun for film in films)
    assert np.isin(watched(now), ids).mean() == pytest.approx(0.8, abs=0.08)
    assert now.affinity(1, ids.tolist()).sum() > 0
    watch = now.watch(int(ids[0]), 0.5, LiveConfig(), np.random.default_rng(0))[0]
    assert 0 < watch["watch_seconds"] <= 60 * films[0]["runtime_minutes"]
    again, more = drifted(now, DriftConfig("releases"))
    assert not {film["item_id"] for film in more} & set(ids.tolist())
    assert len(again.truth.items) == N_ITEMS + len(films) + len(more)


def test_one_film_that_few_knew_is_watched_by_all(world):
    before, now = watched(world), watched(after(world, "popularity"))
    film, count = (
        each[0] for each in np.unique_counts(now[np.isin(now, after(world, "popularity").talked_about)])
    )
    assert count / len(now) == pytest.approx(0.8, abs=0.08)
    assert (before == film).mean() < 0.05


def test_broken_clients_report_no_clicks_and_no_time_for_their_share_of_users(world):
    now = after(world, "feed", 0.4)
    made = {user: now.reported(user, EVENTS) for user in range(1, 201)}
    broken = [events for events in made.values() if events != EVENTS]
    assert len(broken) / 200 == pytest.approx(0.4, abs=0.12)
    for events in broken:
        assert [event["event"] for event in events] == ["view", "watch", "rate"]
        assert events[1] == {"event": "watch", "item_id": 3, "watch_seconds": 0}
    assert world.reported(1, EVENTS) == EVENTS
    assert replace(now, broken=1.0).reported(1, EVENTS) != EVENTS


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (("weather",), "one of taste"),
        (("taste", -1), "after"),
        (("feed", 0, 0.0), "strength"),
        (("feed", 0, 1.1), "strength"),
    ],
)
def test_change_that_cannot_be_is_refused(values, match):
    with pytest.raises(ValueError, match=match):
        DriftConfig(*values)
