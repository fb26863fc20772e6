"""
People who asked to be forgotten: their rows go, and a keyed hash of their id keeps them from coming back.

An erasure has two steps, each a transaction. The first marks the user and waits for events under way; from
then on no event of theirs counts or is taken. The second deletes, for as long as it takes, and keeps nobody
waiting. Both may be repeated: `forget` repeats the second, daily, for who was interrupted in it and for rows
behind answers that were written since.

The hash is HMAC-SHA256: without the key a list of ids that are few enough to try says nothing. The key is no
part of the database or of its backups.
"""

import hmac
from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, exists, func, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from marquee.errors import ConfigError
from marquee.store.notify import notify_users
from marquee.store.secrets import read_secret
from marquee.store.tables import erasures, users

__all__ = [
    "DELETION_LOCK",
    "LOCK",
    "OF_USER",
    "apply",
    "delete_rows",
    "erased_among",
    "hashes_in",
    "hashes_of",
    "known",
    "mark",
    "note",
    "without_erased",
]

Id = TypeVar("Id", int, str)

LOCK: Final = 0x45726173  # "Eras"; any number that nobody else locks
DELETION_LOCK: Final = 0x44656C65  # "Dele"; of who deletes rows of answers
KEY_CHECK: Final = b"the key of this table"
"""Its hash is in the table beside those of users: who holds another key finds it missing."""

OF_USER: Final = {
    "interactions": "DELETE FROM interactions WHERE user_id = ANY(CAST(:users AS bigint[]))",
    "shadow_answers": "DELETE FROM shadow_answers USING impressions "
    "WHERE shadow_answers.request_id = impressions.request_id "
    "AND impressions.user_id = ANY(CAST(:users AS bigint[]))",
    "impressions": "DELETE FROM impressions WHERE user_id = ANY(CAST(:users AS bigint[]))",
    "predictions": "DELETE FROM predictions WHERE user_id = ANY(CAST(:users AS bigint[]))",
    "recommendations": "DELETE FROM recommendations WHERE user_id = ANY(CAST(:users AS bigint[]))",
    "quarantine": "DELETE FROM quarantine WHERE content->>'user_id' = ANY(CAST(:users AS text[]))",
}
"""In this order: shadow answers are found by the impressions."""


WHO_IS_KNOWN: Final = """
SELECT user_id FROM users UNION SELECT user_id FROM interactions UNION SELECT user_id FROM impressions
UNION SELECT user_id FROM predictions UNION SELECT user_id FROM recommendations
UNION SELECT CAST(content->>'user_id' AS bigint) FROM quarantine WHERE content->>'user_id' ~ '^-?[0-9]{1,18}$'
"""


def mark(connection: Connection, user_id: int, folder: Path) -> datetime:
    """
    Say that a user is erased: the first step.

    Args:
        folder: of the secrets.

    Returns:
        When it was said first.
    """
    key = _key(connection, folder)
    # Whoever appends events holds this lock together; those who come later see the mark.
    connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    connection.execute(
        upsert(erasures)
        .values([{"user_hash": _hash(key, KEY_CHECK)}, {"user_hash": _hash(key, _name(user_id))}])
        .on_conflict_do_nothing()
    )
    now = func.now()
    marked: datetime = connection.execute(
        upsert(users)
        .values(user_id=user_id, kind="live", created_at=now, erased_at=now)
        .on_conflict_do_update(
            index_elements=["user_id"],
            # The row keeps the number, so that it is not given away again, and nothing else of the person.
            set_={
                "erased_at": func.coalesce(users.c.erased_at, now),
                "created_at": func.coalesce(users.c.erased_at, now),
            },
        )
        .returning(users.c.erased_at)
    ).scalar_one()
    notify_users(connection, [user_id])
    return marked


def delete_rows(connection: Connection, *user_ids: int) -> dict[str, int]:
    """
    Delete what is kept of users: the second step.

    Returns:
        Rows deleted, per table.
    """
    # One at a time: two that delete the same rows, each in its order, would wait for one another.
    connection.execute(select(func.pg_advisory_xact_lock(DELETION_LOCK)))
    deleted = {
        table: connection.execute(text(statement), {"users": list(user_ids)}).rowcount
        for table, statement in OF_USER.items()
    }
    if any(deleted.values()):
        notify_users(connection, user_ids)
    return deleted


def note(connection: Connection, user_id: int, folder: Path) -> bytes:
    """What to keep beside the backups of a user who was marked, for who restores one of before."""
    key = _key(connection, folder)
    return "\n".join(_hash(key, name).hex() for name in (KEY_CHECK, _name(user_id))).encode()


def hashes_of(connection: Connection, user_ids: Iterable[int], folder: Path) -> dict[int, str]:
    """Users → their hashes, hexadecimal: a name for who is not to be named."""
    key = _key(connection, folder)
    return {user_id: _hash(key, _name(user_id)).hex() for user_id in user_ids}


def known(connection: Connection) -> list[bytes]:
    """All hashes of a database, to be applied to another; none where there is no such table yet."""
    if connection.execute(select(func.to_regclass(erasures.name))).scalar_one() is None:
        return []
    return list(connection.execute(select(erasures.c.user_hash)).scalars())


def hashes_in(note: bytes) -> list[bytes]:
    """The hashes of a `note`."""
    return [bytes.fromhex(line) for line in note.decode().split()]


def apply(connection: Connection, hashes: Iterable[bytes], folder: Path) -> int:
    """
    Erase who was erased elsewhere: after a backup of before was restored.

    Args:
        hashes: of the table `erasures` elsewhere, or of notes.
        folder: of the secrets.

    Returns:
        How many users were known here.

    Raises:
        ConfigError: the erased cannot be told, since the key is not the one they were hashed with.
    """
    new = set(hashes) - set(connection.execute(select(erasures.c.user_hash)).scalars())
    if not new:
        return 0
    connection.execute(upsert(erasures).values([{"user_hash": each} for each in sorted(new)]))
    key = _key(connection, folder)
    known = connection.execute(text(WHO_IS_KNOWN)).scalars()
    erased = [i for i in known if i is not None and _hash(key, _name(i)) in new]
    for user_id in erased:
        mark(connection, user_id, folder)
    if erased:
        delete_rows(connection, *erased)
    return len(erased)


def without_erased(connection: Connection, rows: pa.Table) -> pa.Table:
    """
    The rows of users who are not erased; it costs next to nothing until somebody is.

    Args:
        rows: with a column `user_id`.

    Raises:
        ConfigError: the erased cannot be told, since the key is not the one they were hashed with.
    """
    erased = erased_among(connection, pc.unique(rows["user_id"]).to_pylist())
    if not erased:
        return rows
    return rows.filter(pc.invert(pc.is_in(rows["user_id"], pa.array(sorted(erased), pa.int64()))))


def erased_among(connection: Connection, user_ids: Collection[Id]) -> set[Id]:
    """
    Those of these users who are erased.

    Args:
        user_ids: numbers, or what raw input says that they are.

    Raises:
        ConfigError: the erased cannot be told, since the key is not the one they were hashed with.
    """
    if not user_ids or not connection.execute(select(exists().select_from(erasures))).scalar_one():
        return set()
    key = _key(connection, connection.get_execution_options().get("secrets"))
    known = set(connection.execute(select(erasures.c.user_hash)).scalars())
    return {user_id for user_id in user_ids if _hash(key, _name(user_id)) in known}


def _key(connection: Connection, folder: Any) -> bytes:
    """The key that the hashes of the table are made with."""
    fix = "Give all processes of one deployment the same folder of secrets, and a restored one its old one."
    if folder is None:
        raise ConfigError("There are erased users, and no folder of secrets to tell who they are.", fix=fix)
    key = read_secret(folder, "erasures")
    hashes = select(erasures.c.user_hash)
    is_ours = erasures.c.user_hash == _hash(key, KEY_CHECK)
    if connection.execute(select(exists(hashes) & ~exists(hashes.where(is_ours)))).scalar_one():
        raise ConfigError(
            f"The erased users were hashed with another key than that in {folder}: they cannot be told.",
            fix=fix,
        )
    return key


def _name(user_id: int | str) -> bytes:
    return str(user_id).encode()


def _hash(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")
