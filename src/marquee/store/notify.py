"""
What one process tells all others when it commits: PostgreSQL's LISTEN / NOTIFY.

A notification says that something changed, never what it is now: who hears it reads again. It leaves with
the commit of the transaction that sent it, or not at all.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from sqlalchemy import Connection, text

__all__ = ["CHANNELS", "EVERYTHING", "notify", "notify_users"]

CHANNELS: Final = (
    "marquee_users",  # ids of users with new events, or that are erased
    "marquee_deployments",  # slots
    "marquee_experiments",
    "marquee_items",  # facts, texts or editorial choices
    "marquee_predictions",  # answers of the predictor
    "marquee_recommendations",  # a new batch
    "marquee_keys",
)
EVERYTHING: Final = "*"
"""The payload that stands for all of a kind."""
MOST_BYTES: Final = 7_900
"""PostgreSQL takes payloads of less than 8,000 bytes."""
MOST_USERS: Final = 2_000
"""More users than this at once are `EVERYTHING`."""


def notify(connection: Connection, channel: str, payload: str = EVERYTHING) -> None:
    """Tell all listeners of a channel, at the commit of this transaction."""
    connection.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": channel, "payload": payload})


def notify_users(connection: Connection, user_ids: Iterable[int]) -> None:
    """Tell all listeners that what is known of these users has changed."""
    for payload in user_payloads(set(user_ids)):
        notify(connection, "marquee_users", payload)


def user_payloads(user_ids: set[int]) -> Iterator[str]:
    """The ids, separated by spaces, in as many payloads as they need."""
    if len(user_ids) > MOST_USERS:
        yield EVERYTHING
        return
    part: list[str] = []
    size = 0
    for user_id in map(str, sorted(user_ids)):
        if size + len(user_id) + 1 > MOST_BYTES:
            yield " ".join(part)
            part, size = [], 0
        part.append(user_id)
        size += len(user_id) + 1
    if part:
        yield " ".join(part)
