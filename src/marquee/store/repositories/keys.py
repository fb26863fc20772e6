"""
API keys: made, listed, revoked.

Only the SHA-256 of a key is kept. A key is 256 random bits: nobody can guess one from its hash, and the slow
hashes that protect passwords would add nothing but time to each request.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Column, Connection, bindparam, func, insert, select, update

from marquee.errors import NotFoundError
from marquee.store.notify import notify
from marquee.store.tables import api_keys

__all__ = [
    "ApiKey",
    "KeyRole",
    "ValidKey",
    "any_made",
    "create",
    "digest",
    "everything",
    "record_use",
    "revoke",
    "valid",
]

KeyRole = Literal["viewer", "service", "operator"]

ID_BYTES: Final = 5
SECRET_BYTES: Final = 32


@dataclass(frozen=True)
class ApiKey:
    """A key as people see it, revoked ones included."""

    key_id: str
    name: str
    role: KeyRole
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class ValidKey(NamedTuple):
    """A key that opens doors."""

    key_id: str
    role: KeyRole
    digest: bytes


def digest(key: bytes) -> bytes:
    """What is kept of a key."""
    return sha256(key).digest()


def create(connection: Connection, name: str, role: KeyRole) -> tuple[ApiKey, str]:
    """
    Make a key.

    Returns:
        Its record, and the key itself: `mq_<key_id>_<secret>`. Nobody can ever show it again.
    """
    key_id = secrets.token_hex(ID_BYTES)
    key = f"mq_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    row = connection.execute(
        insert(api_keys)
        .values(key_id=key_id, name=name, role=role, secret_hash=digest(key.encode()))
        .returning(*_shown())
    ).one()
    notify(connection, "marquee_keys", key_id)
    return ApiKey(**row._mapping), key


def everything(connection: Connection) -> Sequence[ApiKey]:
    """All keys, oldest first."""
    query = select(*_shown()).order_by(api_keys.c.created_at, api_keys.c.key_id)
    return [ApiKey(**row._mapping) for row in connection.execute(query)]


def valid(connection: Connection) -> tuple[Sequence[ValidKey], bool]:
    """The keys that are not revoked, and whether any key was ever made."""
    rows = connection.execute(
        select(api_keys.c.key_id, api_keys.c.role, api_keys.c.secret_hash, api_keys.c.revoked_at)
    ).all()
    keys = [ValidKey(row.key_id, row.role, bytes(row.secret_hash)) for row in rows if row.revoked_at is None]
    return keys, bool(rows)


def any_made(connection: Connection) -> bool:
    """Whether any key was ever made, revoked or not."""
    return connection.execute(select(api_keys.c.key_id).limit(1)).one_or_none() is not None


def revoke(connection: Connection, key_id: str) -> ApiKey:
    """
    End the validity of a key at once; a key that is revoked already stays as it is.

    Raises:
        NotFoundError: there is no such key.
    """
    row = connection.execute(
        update(api_keys)
        .where(api_keys.c.key_id == key_id)
        .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
        .returning(*_shown())
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no key {key_id!r}.", fix="`marquee keys list` shows their ids.")
    notify(connection, "marquee_keys", key_id)
    return ApiKey(**row._mapping)


def record_use(connection: Connection, used: Mapping[str, datetime]) -> None:
    """Keep when keys were last used: key id → time; the later of two processes' times stays."""
    if not used:
        return
    at = bindparam("at", type_=api_keys.c.last_used_at.type)
    connection.execute(
        update(api_keys)
        .where(api_keys.c.key_id == bindparam("key"))
        .values(last_used_at=func.greatest(api_keys.c.last_used_at, at)),
        [{"key": key_id, "at": time} for key_id, time in used.items()],
    )


def _shown() -> list[Column[Any]]:
    c = api_keys.c
    return [c.key_id, c.name, c.role, c.created_at, c.revoked_at, c.last_used_at]
