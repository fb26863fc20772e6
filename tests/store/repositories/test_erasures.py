import threading
from datetime import UTC, datetime
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sqlalchemy import text
from stored_events import append_events

from marquee.config import Settings
from marquee.data import Event
from marquee.data.schema import INTERACTIONS
from marquee.errors import ConfigError, ErasedUserError
from marquee.store.postgres import Database
from marquee.store.repositories import erasures, interactions, quarantine
from marquee.store.repositories.interactions import LoadCounts, NewEvent

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANNA, BORA = 1, 2


def log(users: int = 10) -> pa.Table:
    rows = [
        {"user_id": user, "item_id": item, "event": "watch", "occurred_at": NOW}
        for user in range(1, users + 1)
        for item in (10, 20, 30)
    ]
    table = pa.Table.from_pylist(rows, schema=INTERACTIONS)
    return table.append_column("event_key", pa.array([f"k{i}" for i in range(len(rows))]))


def event(user_id: int, key: str = "a") -> NewEvent:
    return NewEvent(user_id, 10, Event.LIKE, f"{user_id}:{key}", NOW)


def erase(database: Database, user_id: int, settings: Settings) -> dict[str, int]:
    with database.begin() as connection:
        erasures.mark(connection, user_id, settings.paths.secrets)
    with database.begin() as connection:
        return erasures.delete_rows(connection, user_id)


def add_traces(database: Database, user_id: int) -> None:
    """A row of a user in every table that has any, but for their events."""
    values = {"user_id": user_id, "request_id": uuid4()}
    with database.begin() as connection:
        for statement in (
            "INSERT INTO impressions (request_id, served_at, user_id, item_ids, scores, bundle, surface) "
            "VALUES (:request_id, now(), :user_id, '{1}', '{1}', 'b', 'recommendations')",
            "INSERT INTO shadow_answers VALUES (:request_id, now(), 'b', '{1}', '{1}', 1, 1, null)",
            "INSERT INTO predictions (user_id, item_id, item_ids, scores, bundle) "
            "VALUES (:user_id, 1, '{1}', '{1}', 'b')",
            "INSERT INTO recommendations VALUES (1, :user_id, '{1}', '{1}')",
            "INSERT INTO quarantine (source, reason, content, digest) VALUES ('s', 'r', "
            "jsonb_build_object('user_id', CAST(:user_id AS bigint)), CAST(:request_id AS text)::bytea)",
        ):
            connection.execute(text(statement), values)


def rows_of(database: Database, user_id: int) -> dict[str, int]:
    found = {}
    with database.begin() as connection:
        for table in ("interactions", "impressions", "predictions", "recommendations"):
            query = text(f"SELECT count(*) FROM {table} WHERE user_id = :user_id")
            found[table] = connection.execute(query, {"user_id": user_id}).scalar_one()
        for table in ("shadow_answers", "quarantine"):
            found[table] = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    return found


def test_rows_of_the_person_and_of_nobody_else_are_gone(database: Database, settings: Settings):
    with database.begin() as connection:
        interactions.load_interactions(connection, log(), source="log")
    for user_id in (ANNA, BORA):
        add_traces(database, user_id)
    deleted = erase(database, ANNA, settings)
    assert deleted == {
        "interactions": 3, "shadow_answers": 1, "impressions": 1, "predictions": 1, "recommendations": 1,
        "quarantine": 1,
    }  # fmt: skip
    assert set(rows_of(database, ANNA).values()) == {0, 1}  # those that are left are of the other user
    assert rows_of(database, BORA) == {**dict.fromkeys(deleted, 1), "interactions": 3}
    assert erase(database, ANNA, settings) == dict.fromkeys(deleted, 0)


def test_several_are_deleted_at_once(database: Database, settings: Settings):
    with database.begin() as connection:
        interactions.load_interactions(connection, log(3), source="log")
    for user_id in (ANNA, BORA, 3):
        add_traces(database, user_id)
    with database.begin() as connection:
        assert erasures.delete_rows(connection, ANNA, BORA)["interactions"] == 6
    assert rows_of(database, ANNA) == {**dict.fromkeys(rows_of(database, 3), 0)} | {
        "shadow_answers": 1,
        "quarantine": 1,
    }
    assert rows_of(database, 3)["interactions"] == 3


@pytest.mark.parametrize("anna", [ANNA, str(ANNA)])
def test_rejected_rows_of_the_erased_are_not_kept(database: Database, settings: Settings, anna: int | str):
    rejected = [
        ("r", {"user_id": anna}),
        ("r", {"user_id": BORA}),
        ("r", {"user_id": None}),
        ("r", {"id": 1}),
    ]
    erase(database, ANNA, settings)
    with database.begin() as connection:
        assert quarantine.append(connection, "log", rejected) == 3
        kept = connection.execute(text("SELECT content->>'user_id' FROM quarantine")).scalars().all()
    assert set(kept) == {str(BORA), None}


def test_row_that_is_kept_says_nothing_but_when(database: Database, settings: Settings):
    with database.begin() as connection:
        interactions.load_interactions(connection, log(1), source="log")
        connection.execute(text("UPDATE users SET created_at = '2020-01-01'"))
        first = erasures.mark(connection, ANNA, settings.paths.secrets)
    with database.begin() as connection:
        assert erasures.mark(connection, ANNA, settings.paths.secrets) == first
        row = connection.execute(text("SELECT * FROM users")).one()
        hashes = connection.execute(text("SELECT user_hash FROM erasures")).scalars().all()
    assert (row.erased_at, row.created_at) == (first, first)
    assert len(hashes) == 2  # of the person, and of what tells the key
    assert all(len(value) == 32 for value in hashes)


def test_next_snapshot_is_without_the_person(database: Database, settings: Settings):
    with database.begin() as connection:
        interactions.load_interactions(connection, log(), source="log")
        erasures.mark(connection, ANNA, settings.paths.secrets)
    assert ANNA not in interactions.load(database).user_ids
    assert BORA in interactions.load(database).user_ids


@pytest.mark.parametrize("source", ["log", "another"])
def test_loading_a_log_again_does_not_bring_them_back(database: Database, settings: Settings, source: str):
    with database.begin() as connection:
        interactions.load_interactions(connection, log(), source="log")
    erase(database, ANNA, settings)
    erase(database, 999, settings)
    with database.begin() as connection:
        # As in a database that was made anew, where only the hashes are known.
        connection.execute(text("DELETE FROM users WHERE erased_at IS NOT NULL"))
    with database.begin() as connection:
        counts = interactions.load_interactions(connection, log(), source=source)
    assert counts == (LoadCounts(0, 30) if source == "log" else LoadCounts(27, 3))
    with database.begin() as connection:
        only = log().filter(pc.equal(log()["user_id"], ANNA))
        assert interactions.load_interactions(connection, only, source=source) == LoadCounts(0, 3)
        known = connection.execute(text("SELECT user_id FROM users")).scalars().all()
    assert ANNA not in known
    assert rows_of(database, ANNA)["interactions"] == 0


def test_events_of_the_erased_are_refused_and_others_with_them(database: Database, settings: Settings):
    erase(database, ANNA, settings)
    with pytest.raises(ErasedUserError, match="user 1 "), database.begin() as connection:
        append_events(connection, [event(BORA), event(ANNA)])
    assert rows_of(database, BORA)["interactions"] == 0
    with database.begin() as connection:
        assert append_events(connection, [event(BORA)]) == [True]


def test_mark_waits_for_events_under_way(database: Database, settings: Settings):
    marked = threading.Event()

    def mark() -> None:
        with database.begin() as connection:
            erasures.mark(connection, ANNA, settings.paths.secrets)
        marked.set()

    with database.begin() as connection:
        append_events(connection, [event(ANNA)])
        thread = threading.Thread(target=mark)
        thread.start()
        waiting = text("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
        while not connection.execute(waiting).scalar_one():
            assert thread.is_alive()
        assert not marked.is_set()
    thread.join(60)
    assert marked.is_set()
    with database.begin() as connection:
        assert erasures.delete_rows(connection, ANNA)["interactions"] == 1


def test_another_key_is_noticed_instead_of_bringing_everyone_back(database: Database, settings: Settings):
    with database.begin() as connection:
        interactions.load_interactions(connection, log(), source="log")
    erase(database, ANNA, settings)
    (settings.paths.secrets / "erasures.key").unlink()
    with pytest.raises(ConfigError, match="another key"), database.begin() as connection:
        interactions.load_interactions(connection, log(), source="log")
    with pytest.raises(ConfigError, match="another key"), database.begin() as connection:
        erasures.mark(connection, BORA, settings.paths.secrets)
    elsewhere = Database(database.url, settings.database)
    with pytest.raises(ConfigError, match="no folder of secrets"), elsewhere.begin() as connection:
        interactions.load_interactions(connection, log(), source="log")
    elsewhere.close()
