from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from stored_events import append_events

from marquee.data import Event
from marquee.data.schema import INTERACTIONS, ITEMS
from marquee.store.postgres import Database
from marquee.store.repositories import erasures, interactions, items, people
from marquee.store.repositories.interactions import NewEvent
from marquee.store.tables import metadata

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 1, tzinfo=UTC)
ANNA = 7


def event(key: str, *, user: int = ANNA, item: int = 10, kind: Event = Event.WATCH, minute: int = 0, **more):
    return NewEvent(user, item, kind, f"{user}:{key}", START + timedelta(minutes=minute), **more)


def append(database: Database, *events: NewEvent) -> None:
    with database.begin() as connection:
        append_events(connection, events)


def test_history_is_what_counts_newest_first_with_titles(database: Database):
    films = [
        {"item_id": 10, "title": "The Matrix", "poster_path": "/m.jpg"},
        {"item_id": 20, "title": "Gone"},
    ]
    with database.begin() as connection:
        items.upsert_items(connection, pa.Table.from_pylist(films, schema=ITEMS), source="test")
        items.upsert_texts(
            connection,
            pa.Table.from_pylist(
                [{"item_id": 10, "language": "ko", "title": "매트릭스"}], schema=items.TEXTS
            ),
        )
        items.remove(connection, [20], removed_at=START)
    append(
        database,
        event("a", minute=1, watch_seconds=60.0),
        event("b", item=20, kind=Event.RATE, rating=8.5, minute=3),
        event("c", item=30, kind=Event.CLICK, minute=2),
        event("d", kind=Event.LIKE, minute=4),
        event("e", kind=Event.UNDO, revokes=f"{ANNA}:d", minute=5),
        event("a", user=8, minute=9),
    )
    with database.begin() as connection:
        found = [past for _, past in people.history(connection, ANNA, language="ko-KR")]
    assert [(past.event_key, past.item_id, past.title) for past in found] == [
        ("b", 20, "Gone"),
        ("c", 30, None),
        ("a", 10, "매트릭스"),
    ]
    assert (found[0].rating, found[0].poster_path, found[0].occurred_at) == (
        8.5,
        None,
        START + timedelta(minutes=3),
    )
    assert (found[2].watch_seconds, found[2].poster_path) == (60.0, "/m.jpg")


def test_events_of_files_have_no_key_to_undo_them_by(database: Database):
    row = {"user_id": ANNA, "item_id": 1, "event": "watch", "occurred_at": START}
    table = pa.Table.from_pylist([row], schema=INTERACTIONS).append_column("event_key", pa.array(["k"]))
    with database.begin() as connection:
        interactions.load_interactions(connection, table, source="log")
        assert people.history(connection, ANNA)[0][1].event_key is None


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 13))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_of_any_length_hold_every_event_once(database: Database, minutes: list[int], limit: int):
    with database.begin() as connection:
        connection.execute(text("TRUNCATE interactions"))
    append(database, *(event(f"{i:02}", minute=minute) for i, minute in enumerate(minutes)))
    keys, after = [], None
    with database.begin() as connection:
        while page := people.history(connection, ANNA, after=after, limit=limit):
            keys += [past.event_key for _, past in page]
            after = page[-1][0]
    expected = sorted(range(len(minutes)), key=lambda i: (minutes[i], i), reverse=True)
    assert keys == [f"{i:02}" for i in expected]


def test_nothing_is_shown_of_unknown_and_erased_people(database: Database, tmp_path):
    append(database, event("a"))
    with database.begin() as connection:
        assert people.history(connection, 99) == []
        erasures.mark(connection, ANNA, tmp_path)
        assert people.history(connection, ANNA) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_section_is_read_whole_whatever_is_read_at_a_time(database: Database, limit: int):
    append(database, *(event(str(i), minute=-i) for i in range(6)), event("x", user=8))
    read, after = [], None
    key = people.SECTIONS["interactions"].key
    with database.begin() as connection:
        while rows := people.read_section(connection, "interactions", ANNA, after=after, limit=limit):
            read += rows
            after = tuple(rows[-1][column] for column in key)
    assert [row["event_key"] for row in read] == [f"{ANNA}:{i}" for i in range(6)]


def test_every_section_can_be_read_on_from_its_key(database: Database):
    with database.begin() as connection:
        for name, section in people.SECTIONS.items():
            first = people.read_section(connection, name, ANNA, after=None, limit=5)
            assert first == []
            columns = metadata.tables["users" if name == "profile" else name].c
            after = tuple(
                {"BIGINT": 1, "UUID": "0b0f8a5e-6f0e-4b9a-8f57-3d8a0c3d8f11", "TEXT": "b"}.get(
                    str(columns[column].type), START
                )
                for column in section.key
            )
            assert people.read_section(connection, name, ANNA, after=after, limit=5) == []


def test_every_table_with_people_in_it_is_exported_and_erased():
    with_users = {table.name for table in metadata.tables.values() if "user_id" in table.c}
    assert with_users - {"users"} <= set(people.SECTIONS)
    assert with_users - {"users"} <= set(erasures.OF_USER)
    for name, section in people.SECTIONS.items():
        if name not in ("profile", "quarantine"):
            exported = {column.strip().rpartition(".")[2] for column in section.columns.split(",")}
            assert exported == set(metadata.tables[name].c.keys()) - {"user_id"}, name
