"""Users in a few numbers."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from stored_events import append_events

from marquee.data import Event
from marquee.data.schema import ITEMS
from marquee.store.postgres import Database
from marquee.store.repositories import items, profiles, texts
from marquee.store.repositories.interactions import NewEvent

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 1, tzinfo=UTC)
FILMS = [
    {"item_id": 10, "title": "Ten", "genres": ["Drama", "Crime"]},
    {"item_id": 20, "title": "Twenty", "genres": ["Drama"]},
    {"item_id": 30, "title": "Thirty", "genres": ["Horror"]},
    {"item_id": 40, "title": "Forty", "genres": None},
]


@pytest.fixture
def films(database: Database) -> None:
    with database.begin() as connection:
        items.upsert_items(connection, pa.Table.from_pylist(FILMS, schema=ITEMS), source="test")


def append(database: Database, user_id: int, *events: tuple[int, Event, float | None]) -> None:
    with database.begin() as connection:
        append_events(
            connection,
            [
                NewEvent(user_id, item, kind, f"{user_id}:{n}", START + timedelta(minutes=n), rating=rating)
                for n, (item, kind, rating) in enumerate(events)
            ],
        )


def test_genres_are_of_films_that_were_watched_and_not_disliked(films, database: Database):
    append(
        database,
        7,
        (10, Event.WATCH, None),
        (10, Event.LIKE, None),
        (20, Event.RATE, 9.0),
        (30, Event.RATE, 2.0),
        (30, Event.HIDE, None),
        (30, Event.CLICK, None),
        (40, Event.WATCH, None),
        (99, Event.WATCH, None),
    )
    with database.begin() as connection:
        found = profiles.get(connection, 7)
        (listed,) = profiles.listed(connection)
    assert found.genres == listed.genres == {"Drama": 2, "Crime": 1}
    assert sum(found.events.values()) == listed.events == 8
    assert (found.first_event_at, found.last_event_at) == (START, START + timedelta(minutes=7))


def test_only_the_newest_events_tell_genres(films, database: Database):
    append(database, 7, (10, Event.WATCH, None), *[(20, Event.WATCH, None)] * profiles.NEWEST)
    with database.begin() as connection:
        assert profiles.get(connection, 7).genres == {"Drama": 1}


def test_users_are_listed_by_number_and_kind(films, database: Database):
    for user_id in (9, 3, 5):
        append(database, user_id, (10, Event.WATCH, None))
    with database.begin() as connection:
        assert [user.user_id for user in profiles.listed(connection, limit=2)] == [3, 5]
        assert profiles.listed(connection, kind="virtual") == []
        assert [user.kind for user in profiles.listed(connection, kind="live")] == ["live"] * 3


def test_texts_are_those_of_items_that_are_there_in_order(films, database: Database):
    rows = [
        {"item_id": item, "language": language, "title": title}
        for item, language, title in (
            (30, "ko", "셋"),
            (10, "ko", "하나"),
            (10, "fr", "Un"),
            (20, "ko", "둘"),
            (40, "ko", None),
            (10, "ko-KP", "열"),
            (10, "de", "Zehn"),
        )
    ]
    with database.begin() as connection:
        items.upsert_texts(connection, pa.Table.from_pylist(rows))
        items.remove(connection, [20], removed_at=START)
    loaded = texts.load(database, ["ko-KR", "fr"])
    assert [tuple(row.values())[:3] for row in loaded.to_pylist()] == [
        ("fr", 10, "Un"),
        ("ko", 10, "하나"),
        ("ko", 30, "셋"),
    ]
    assert len(texts.load(database, [])) == 0
