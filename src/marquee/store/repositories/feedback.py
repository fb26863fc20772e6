"""Events of many requests in one statement, and what became of each."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from psycopg.pq.abc import PGresult

from marquee.store.notify import user_payloads
from marquee.store.repositories.erasures import LOCK
from marquee.store.repositories.interactions import NewEvent
from marquee.store.wire import Call, bigints, reals, texts, times, uuids

__all__ = ["Appended", "append", "appended", "to_microseconds"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

USERS: Final = b"""
INSERT INTO users (user_id, kind) SELECT id, 'live' FROM unnest($1::bigint[]) AS id ORDER BY id
ON CONFLICT DO NOTHING
"""

# A request is stored whole or, where one of its users is erased, not at all. In the order of their keys,
# two transactions that append the same events wait for each other and cannot block each other.
EVENTS: Final = b"""
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::real[], $6::real[],
        $7::timestamptz[], $8::text[], $9::text[], $10::uuid[])
    AS given (request, user_id, item_id, event, rating, watch_seconds, occurred_at, event_key, revokes,
        request_id)
), refused AS MATERIALIZED (
    SELECT request, user_id FROM given JOIN users USING (user_id) WHERE erased_at IS NOT NULL
), stored AS (
    INSERT INTO interactions (user_id, item_id, event, rating, watch_seconds, occurred_at, source, event_key,
        revokes, request_id)
    SELECT user_id, item_id, event, nullif(rating, 'NaN'), nullif(watch_seconds, 'NaN'), occurred_at, 'live',
        event_key, revokes, request_id
    FROM given WHERE request NOT IN (SELECT request FROM refused) ORDER BY event_key
    ON CONFLICT (source, event_key) DO NOTHING
    RETURNING event_key
)
SELECT event_key, NULL::bigint, NULL::bigint FROM stored UNION ALL SELECT NULL, request, user_id FROM refused
"""

# Erasures wait for events under way, and events for the mark of an erasure, not for the rest of it.
SHARE: Final = b"SELECT FROM pg_advisory_xact_lock_shared(%d)" % LOCK

NOTIFY: Final = b"SELECT pg_notify('marquee_users', payload) FROM unnest($1::text[]) AS payload"

NAN: Final = float("nan")


class Appended(NamedTuple):
    """
    What became of the events of one request.

    Attributes:
        is_new: of each event, whether it is stored now; else it was there already, by its key.
        erased: a user among them who is erased; then nothing was stored.
    """

    is_new: Sequence[bool]
    erased: int | None = None


def append(requests: Sequence[Sequence[NewEvent]], *, new_users: Sequence[int]) -> list[Call]:
    """
    The statements that append the events of requests and tell all listeners.

    Args:
        requests: the events of each; a key that is there already changes nothing.
        new_users: those that may not have a row of their own yet.
    """
    events = [event for request in requests for event in request]
    number = [i for i, request in enumerate(requests) for _ in request]
    parameters = [
        bigints(number),
        bigints([event.user_id for event in events]),
        bigints([event.item_id for event in events]),
        texts([event.event.label for event in events]),
        reals([NAN if event.rating is None else event.rating for event in events]),
        reals([NAN if event.watch_seconds is None else event.watch_seconds for event in events]),
        times([to_microseconds(event.occurred_at) for event in events]),
        texts([event.event_key for event in events]),
        texts([event.revokes for event in events]),
        uuids([None if event.request_id is None else event.request_id.bytes for event in events]),
    ]
    payloads = list(user_payloads({event.user_id for event in events}))
    add_users = [Call(USERS, [bigints(new_users)])] if new_users else []
    return [Call(SHARE, []), *add_users, Call(EVENTS, parameters), Call(NOTIFY, [texts(payloads)])]


def appended(requests: Sequence[Sequence[NewEvent]], results: Sequence[PGresult]) -> list[Appended]:
    """
    What became of each request; of events with one key the first counts as the stored one.

    Args:
        results: of the statements of `append`.
    """
    stored: set[str] = set()
    erased: dict[int, int] = {}
    result = results[1]
    for row in range(result.ntuples):
        key, *refused = (result.get_value(row, column) for column in range(3))
        if key is not None:
            stored.add(key.decode())
        else:
            request, user_id = (int.from_bytes(value or b"", "big", signed=True) for value in refused)
            erased[request] = user_id
    answers = []
    for i, request_events in enumerate(requests):
        is_new = [event.event_key in stored for event in request_events]
        if any(is_new):
            repeated: set[str] = set()
            for j, event in enumerate(request_events):
                is_new[j] = is_new[j] and event.event_key not in repeated
                repeated.add(event.event_key)
            stored -= repeated
        answers.append(Appended(is_new, erased.get(i)))
    return answers


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND
