from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import text
from stored_events import append_events, seen_items

from marquee.data import Event
from marquee.data.schema import INTERACTIONS
from marquee.errors import SchemaError
from marquee.store.postgres import Database
from marquee.store.repositories import interactions
from marquee.store.repositories.interactions import LoadCounts, NewEvent

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 1, tzinfo=UTC)


def rows(n: int, *, first: int = 0) -> pa.Table:
    number = np.arange(first, first + n)
    return pa.table(
        {
            "user_id": number % 17,
            "item_id": number % 23,
            "event": pa.array(["watch", "rate"]).take(pa.array(number % 2)),
            "rating": pa.array(number % 11, pa.float32(), mask=number % 2 == 0),
            "watch_seconds": pa.array(np.where(number % 2, np.nan, number).astype(np.float32)),
            "occurred_at": pa.array(number * 1_000_000, pa.timestamp("us", tz="UTC")),
            "event_key": [f"k{i}" for i in number],
        }
    )


def event(key: str, *, user: int = 1, item: int = 10, kind: Event = Event.WATCH, minute: int = 0, **more):
    return NewEvent(user, item, kind, key, START + timedelta(minutes=minute), **more)


def definitions(database: Database) -> list[str]:
    with database.begin() as connection:
        query = text("SELECT indexdef FROM pg_indexes WHERE tablename = 'interactions' ORDER BY 1")
        return list(connection.execute(query).scalars())


@pytest.mark.parametrize("rebuild_rows", [1, 10**9])
def test_loading_the_same_rows_again_inserts_none(
    database: Database, monkeypatch: pytest.MonkeyPatch, rebuild_rows: int
):
    monkeypatch.setattr(interactions, "REBUILD_ROWS", rebuild_rows)
    before = definitions(database)
    counted = []
    for table in (rows(100), rows(100), rows(300, first=50), rows(10, first=1_000)):
        with database.begin() as connection:
            counted.append(interactions.load_interactions(connection, table, source="test"))
    assert counted == [LoadCounts(100, 0), LoadCounts(0, 100), LoadCounts(250, 50), LoadCounts(10, 0)]
    assert definitions(database) == before
    with database.begin() as connection:
        assert interactions.count(connection) == {"test": 360}
        assert (
            connection.execute(text("SELECT count(*) FROM users WHERE kind = 'imported'")).scalar_one() == 17
        )


def test_loaded_rows_are_read_back_equal(database: Database):
    table = rows(500)
    with database.begin() as connection:
        interactions.load_interactions(
            connection, table.take(np.random.default_rng(0).permutation(500)), source="s"
        )
    found = interactions.load(database)
    assert found.to_arrow().equals(
        type(found).from_arrow(table).sorted().to_arrow().select(INTERACTIONS.names)
    )


def test_first_row_of_a_repeated_key_counts(database: Database):
    table = pa.concat_tables([rows(5), rows(5).set_column(1, "item_id", pa.array([99] * 5))])
    with database.begin() as connection:
        assert interactions.load_interactions(connection, table, source="s") == LoadCounts(5, 5)
    assert 99 not in interactions.load(database).item_ids


def test_same_keys_of_another_source_are_other_rows(database: Database):
    with database.begin() as connection:
        for source in ("a", "b"):
            assert interactions.load_interactions(connection, rows(5), source=source).inserted == 5


def test_failed_load_leaves_nothing_behind(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interactions, "REBUILD_ROWS", 1)
    before = definitions(database)
    with pytest.raises(RuntimeError), database.begin() as connection:
        interactions.load_interactions(connection, rows(50), source="s")
        raise RuntimeError
    assert definitions(database) == before
    assert len(interactions.load(database)) == 0


def test_missing_column_and_null_are_schema_errors(database: Database):
    with database.begin() as connection:
        with pytest.raises(SchemaError, match="event_key"):
            interactions.load_interactions(connection, rows(1).drop_columns("event_key"), source="s")
        broken = rows(1).set_column(0, "user_id", pa.array([None], pa.int64()))
        with pytest.raises(SchemaError, match="user_id"):
            interactions.load_interactions(connection, broken, source="s")


def test_retried_event_changes_nothing(database: Database):
    with database.begin() as connection:
        assert append_events(connection, [event("a"), event("b")]) == [True, True]
        assert append_events(connection, [event("a", item=11)]) == [False]
        assert seen_items(connection, 1) == {10}


def test_undo_takes_back_one_event_of_its_user(database: Database):
    events = [
        event("a", item=10, minute=1),
        event("b", item=11, kind=Event.HIDE, minute=2),
        event("u", item=10, kind=Event.UNDO, minute=5, revokes="a"),
        event("v", user=2, item=11, kind=Event.UNDO, minute=6, revokes="b"),
    ]
    with database.begin() as connection:
        append_events(connection, events)
        assert seen_items(connection, 1) == {11}
        assert interactions.user_history(connection, 1).item_ids.tolist() == [11]
    assert interactions.load(database).item_ids.tolist() == [11]
    before_undo = interactions.load(database, before=START + timedelta(minutes=5))
    assert before_undo.item_ids.tolist() == [10, 11]


def test_click_alone_is_not_seen(database: Database):
    with database.begin() as connection:
        append_events(connection, [event("a", kind=Event.CLICK), event("b", item=11)])
        assert seen_items(connection, 1) == {11}
        assert seen_items(connection, 999) == frozenset()


def test_history_is_the_newest_events_oldest_first(database: Database):
    with database.begin() as connection:
        append_events(connection, [event(str(i), item=i, minute=i) for i in (3, 1, 2)])
        history = interactions.user_history(connection, 1, limit=2)
        assert history.item_ids.tolist() == [2, 3]
        assert np.isnan(history.ratings).all()


def test_erased_user_leaves_no_trace_in_reads(database: Database):
    with database.begin() as connection:
        append_events(connection, [event("a"), event("b", user=2)])
        connection.execute(text("UPDATE users SET erased_at = now() WHERE user_id = 1"))
        assert len(interactions.user_history(connection, 1)) == 0
        assert seen_items(connection, 1) == frozenset()
    assert interactions.load(database).user_ids.tolist() == [2]


def test_item_counts_are_of_events_that_tell_taste(database: Database):
    with database.begin() as connection:
        events = [
            event("a", item=10),
            event("b", item=10, user=2),
            event("c", item=11, kind=Event.HIDE),
            event("d", item=12, kind=Event.CLICK),
        ]
        append_events(connection, events)
        item_ids, counts = interactions.item_counts(connection)
        assert dict(zip(item_ids.tolist(), counts.tolist(), strict=True)) == {10: 2, 12: 1}
