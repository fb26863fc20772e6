from datetime import UTC, datetime, timedelta
from hashlib import sha256

import psycopg
import pytest
from sqlalchemy import text

from marquee.errors import NotFoundError
from marquee.store.postgres import Database
from marquee.store.repositories import keys

pytestmark = pytest.mark.integration


def test_key_is_valid_until_it_is_revoked_and_counts_as_made_ever_after(database: Database):
    with database.begin() as connection:
        assert keys.valid(connection) == ([], False)
        assert not keys.any_made(connection)
        made, key = keys.create(connection, "site", "service")
        assert key.startswith(f"mq_{made.key_id}_")
        (valid,), any_made = keys.valid(connection)
        assert (valid.key_id, valid.role, any_made) == (made.key_id, "service", True)
        assert valid.digest == sha256(key.encode()).digest() == keys.digest(key.encode())
        revoked = keys.revoke(connection, made.key_id)
        assert revoked.revoked_at is not None
        assert keys.revoke(connection, made.key_id) == revoked
        assert keys.valid(connection) == ([], True)
        assert keys.any_made(connection)


def test_key_itself_is_nowhere_in_the_table(database: Database):
    with database.begin() as connection:
        _, key = keys.create(connection, "site", "viewer")
        row = connection.execute(text("SELECT api_keys::text FROM api_keys")).scalar_one()
    assert key not in row
    assert key.split("_", 2)[2] not in row


def test_unknown_key_cannot_be_revoked(database: Database):
    with database.begin() as connection, pytest.raises(NotFoundError, match="nobody"):
        keys.revoke(connection, "nobody")


def test_last_use_only_moves_forward(database: Database):
    now = datetime.now(UTC)
    with database.begin() as connection:
        made, _ = keys.create(connection, "site", "viewer")
        other, _ = keys.create(connection, "other", "viewer")
        keys.record_use(connection, {})
        keys.record_use(connection, {made.key_id: now, "gone": now})
        keys.record_use(connection, {made.key_id: now - timedelta(hours=1)})
        used = {key.key_id: key.last_used_at for key in keys.everything(connection)}
    assert used == {made.key_id: now, other.key_id: None}


def test_listeners_hear_of_keys_made_and_revoked(database: Database):
    with psycopg.connect(database.url, autocommit=True) as listening:
        listening.execute("LISTEN marquee_keys")
        with database.begin() as connection:
            made, _ = keys.create(connection, "site", "viewer")
        with database.begin() as connection:
            keys.revoke(connection, made.key_id)
        heard = [note.payload for note in listening.notifies(timeout=10, stop_after=2)]
    assert heard == [made.key_id, made.key_id]
