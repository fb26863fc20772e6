"""Where a next page begins, as an opaque text that fits the question it came with and no other."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import Query

from marquee.api.problems import InvalidRequestError

__all__ = ["Cursor", "Days", "Id", "Moment", "Words", "decode", "encode"]

DIGEST_BYTES: Final = 6

# A cursor comes from outside: what is in it must be what PostgreSQL takes.
Id = Annotated[int, msgspec.Meta(ge=1 - 2**63, le=2**63 - 1)]
Days = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Moment = Annotated[int, msgspec.Meta(ge=-62_135_596_800_000_000, le=253_402_300_799_999_999)]
"""Microseconds of a time that has a name in ISO 8601."""
Words = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*$")]

Cursor = Annotated[
    str | None,
    Query(max_length=2_000, description="`next_cursor` of the page before; absent: the first page."),
]

T = TypeVar("T", bound=tuple[Any, ...])


def encode(question: object, key: tuple[Any, ...]) -> str:
    """
    The cursor of the page after a key.

    Args:
        question: all that decides what is listed and in which order, but the length of a page.
    """
    return urlsafe_b64encode(_digest(question) + msgspec.json.encode(key)).decode().rstrip("=")


def decode(cursor: str, question: object, shape: type[T]) -> T:
    """
    The key in a cursor.

    Raises:
        InvalidRequestError: it is none of ours, or of another question.
    """
    try:
        content = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        key: T | None = msgspec.json.decode(content[DIGEST_BYTES:], type=shape)
    except (ValueError, msgspec.MsgspecError):
        key = None
    if key is None or content[:DIGEST_BYTES] != _digest(question):
        raise InvalidRequestError(
            "This cursor is not of this list.",
            field="query.cursor",
            fix="Send `next_cursor` of the page before, with the same parameters as that page, or none.",
        )
    return key


def _digest(question: object) -> bytes:
    return blake2b(msgspec.json.encode(question), digest_size=DIGEST_BYTES).digest()
