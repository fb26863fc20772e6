"""
What is known of users, read for many of them at once and decoded by NumPy.

One query gives all events of all users asked for as a few arrays, in PostgreSQL's binary format: row by row
the client would spend more on decoding than the server on reading.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from psycopg.pq.abc import PGresult

from marquee.data import Event
from marquee.data.schema import Ids, Index, Vector
from marquee.store.wire import POSTGRES_EPOCH_MICROSECONDS, Call, array_of, bigints

__all__ = ["EMPTY", "EVENTS", "MOST_EVENTS", "Precomputed", "UserState", "calls", "decode"]

EVENTS: Final = np.dtype(
    [("item", "<i8"), ("timestamp", "<i8"), ("event", "i1"), ("rating", "<f4"), ("watch", "<f4")]
)
"""One event: microseconds since 1970, a code of `Event`, NaN for what it does not carry."""
MOST_EVENTS: Final = 200
"""How many of the newest events are kept."""

OWN_BYTES, LIST_BYTES = 430, 330
"""Of the objects themselves, as measured."""
KEY_BITS: Final = 52
KEY_MASK: Final = 2**KEY_BITS - 1

Events = NDArray[np.void]

# An event is told by the first letter of its name, an undone one as an undo: the row itself counts no more,
# but it shows, like the undo, when something last became known of the user. Few users ever undo anything; for
# the others no event is looked up.
EVENTS_QUERY: Final = b"""
SELECT array_agg(user_id), array_agg(item_id), array_agg(occurred_at), array_agg(ingested_at),
    array_agg(kind), array_agg(rating), array_agg(watch_seconds)
FROM (
    SELECT user_id, item_id, occurred_at, ingested_at,
        CASE WHEN user_id = ANY(ARRAY(
            SELECT DISTINCT user_id FROM interactions
            WHERE user_id = ANY($1::bigint[]) AND revokes IS NOT NULL
        )) AND EXISTS (
            SELECT FROM interactions AS u
            WHERE u.revokes = i.event_key AND u.source = i.source AND u.user_id = i.user_id
        ) THEN 'u' ELSE event::"char" END AS kind,
        coalesce(rating, 'NaN') AS rating, coalesce(watch_seconds, 'NaN') AS watch_seconds
    FROM interactions AS i
    WHERE user_id = ANY($1::bigint[]) AND user_id <> ALL(ARRAY(
        SELECT user_id FROM users WHERE user_id = ANY($1::bigint[]) AND erased_at IS NOT NULL
    ))
) AS events
"""

LISTS_QUERY: Final = b"""
SELECT r.user_id, r.item_ids, r.scores, b.generated_at, b.bundle
FROM recommendation_batches AS b JOIN recommendations AS r USING (generation)
WHERE b.is_current AND r.user_id = ANY($1::bigint[]) AND r.user_id <> ALL(ARRAY(
    SELECT user_id FROM users WHERE user_id = ANY($1::bigint[]) AND erased_at IS NOT NULL
))
"""

CODES: Final = np.array(
    [next((event for event in Event if ord(event.label[0]) == letter), Event.UNDO) for letter in range(256)],
    np.int8,
)
"""Event codes by the first letter of their names."""


@dataclass(eq=False, slots=True)
class Precomputed:
    """
    A user's list of the current batch, best first.

    Attributes:
        shown: for whoever shows the list, to keep what is true of it for as long as the state is.
    """

    item_ids: Ids
    scores: Vector
    bundle: str
    shown: tuple[Any, ...] | None = None


@dataclass(frozen=True, eq=False, slots=True)
class UserState:
    """
    What is known of a user.

    Attributes:
        events: (<= 200,) of `EVENTS`: the newest that count, oldest first (equal times by item and event).
        seen: (n,) sorted ids of what must not come back: the items of all events but clicks.
        precomputed: None where nothing was computed since anything last became known of the user.
    """

    user_id: int
    events: Events
    seen: Ids
    precomputed: Precomputed | None

    @property
    def nbytes(self) -> int:
        """Memory of it, near enough."""
        list_bytes = 0
        if self.precomputed is not None:
            list_bytes = LIST_BYTES + self.precomputed.item_ids.nbytes + self.precomputed.scores.nbytes
        return OWN_BYTES + self.events.nbytes + self.seen.nbytes + list_bytes


EMPTY: Final = UserState(-1, np.empty(0, EVENTS), np.empty(0, np.int64), None)
"""What is known of nobody."""


def calls(user_ids: Sequence[int]) -> tuple[Call, Call]:
    """What to ask for these users; `decode` reads the answers."""
    parameters = [bigints(user_ids)]
    return Call(EVENTS_QUERY, parameters), Call(LISTS_QUERY, parameters)


def decode(user_ids: Sequence[int], results: Sequence[PGresult]) -> dict[int, UserState]:
    """User id → state, of all that were asked for, which must be distinct."""
    events, lists = results
    wanted = np.sort(np.array(user_ids, np.int64))
    owners = np.searchsorted(wanted, array_of(events.get_value(0, 0), ">i8"))  # (n_rows,) places in `wanted`
    items = array_of(events.get_value(0, 1), ">i8").astype(np.int64)
    occurred = array_of(events.get_value(0, 2), ">i8") + np.int64(POSTGRES_EPOCH_MICROSECONDS)
    codes = CODES[array_of(events.get_value(0, 4), "u1")]
    newest = np.full(len(wanted), np.iinfo(np.int64).min)
    np.maximum.at(newest, owners, array_of(events.get_value(0, 3), ">i8"))
    order = _order(owners, occurred, items, codes)
    order = order[codes[order] != Event.UNDO]
    rows = np.empty(len(order), EVENTS)
    rows["item"] = items[order]
    rows["timestamp"] = occurred[order]
    rows["event"] = codes[order]
    rows["rating"] = array_of(events.get_value(0, 5), ">f4")[order]
    rows["watch"] = array_of(events.get_value(0, 6), ">f4")[order]
    bounds = np.searchsorted(owners[order], np.arange(len(wanted) + 1)).tolist()
    order = order[rows["event"] != Event.CLICK]
    seen_owners, seen = _distinct(owners[order], items[order])
    seen_bounds = np.searchsorted(seen_owners, np.arange(len(wanted) + 1)).tolist()
    computed = _lists(lists, dict(zip(wanted.tolist(), newest.tolist(), strict=True)))
    return {
        # Copies: a view would keep the arrays of everyone in this answer.
        user_id: UserState(
            user_id,
            rows[max(bounds[i], bounds[i + 1] - MOST_EVENTS) : bounds[i + 1]].copy(),
            seen[seen_bounds[i] : seen_bounds[i + 1]].copy(),
            computed.get(user_id),
        )
        for i, user_id in enumerate(wanted.tolist())
    }


def _order(owners: Index, occurred: Index, items: Ids, codes: NDArray[np.int8]) -> Index:
    """The rows by owner, time, item and event."""
    if _fits(occurred):
        keys = (owners << KEY_BITS) | occurred
        order = np.argsort(keys)
        if (np.diff(keys[order]) > 0).all():  # nothing happened at the same time
            return order
    return np.lexsort((codes, items, occurred, owners))


def _distinct(owners: Index, items: Ids) -> tuple[Index, Ids]:
    """The distinct pairs, sorted."""
    if _fits(items):
        keys = np.sort((owners << KEY_BITS) | items)
        keys = keys[np.diff(keys, prepend=-1) > 0]
        return keys >> KEY_BITS, keys & KEY_MASK
    order = np.lexsort((items, owners))
    owners, items = owners[order], items[order]
    first = np.diff(owners, prepend=-1) > 0
    first[1:] |= items[1:] != items[:-1]
    return owners[first], items[first]


def _fits(values: NDArray[np.int64]) -> bool:
    """Whether values leave room for their owner in one number: then one sort does for both."""
    return not len(values) or (int(values.min()) >= 0 and int(values.max()) <= KEY_MASK)


def _lists(result: PGresult, newest: Mapping[int, int]) -> dict[int, Precomputed]:
    """
    The lists that were computed after what last became known of their users.

    Args:
        newest: user id → when that was, as PostgreSQL counts.
    """
    found: dict[int, Precomputed] = {}
    for row in range(result.ntuples):
        user, items, scores, generated, bundle = (result.get_value(row, i) or b"" for i in range(5))
        user_id = int.from_bytes(user, "big", signed=True)
        if newest[user_id] < int.from_bytes(generated, "big", signed=True):
            found[user_id] = Precomputed(
                array_of(items, ">i8").astype(np.int64),
                array_of(scores, ">f4").astype(np.float32),
                intern(bundle.decode()),
            )
    return found
