"""What models learn from: interactions, histories and the catalogue, as columns."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from marquee.data.schema import (
    CSR,
    INTERACTIONS,
    ITEMS,
    Event,
    Ids,
    Index,
    Microseconds,
    Vector,
)
from marquee.data.vocabulary import Vocabulary
from marquee.errors import SchemaError

__all__ = ["Catalog", "Histories", "Interactions"]

EventCodes = NDArray[np.int8]


def _floats(values: ArrayLike | None, n: int) -> Vector:
    if values is None:
        return np.full(n, np.nan, dtype=np.float32)
    return np.ascontiguousarray(values, dtype=np.float32)


def _cast(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    try:
        table = table.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise SchemaError(f"The {what} table cannot be cast: {error}") from error
    empty = [field.name for field in schema if not field.nullable and table[field.name].null_count]
    if empty:
        raise SchemaError(f"The {what} table has nulls in the columns {empty}, which must have none.")
    return table


@dataclass(frozen=True, eq=False, slots=True)
class Interactions:
    """
    Events of users with items, one array per column, all of length n.

    Attributes:
        user_ids, item_ids: (n,) external ids.
        timestamps: (n,) microseconds since 1970-01-01 UTC.
        events: (n,) codes of `Event`; never `UNDO` (stores apply it before they hand events out).
        ratings: (n,) 0–10, NaN where the event carries none.
        watch_seconds: (n,) ≥ 0, NaN where unknown.
    """

    user_ids: Ids
    item_ids: Ids
    timestamps: Microseconds
    events: EventCodes
    ratings: Vector
    watch_seconds: Vector

    @classmethod
    def of(
        cls,
        user_ids: ArrayLike,
        item_ids: ArrayLike,
        timestamps: ArrayLike,
        *,
        events: ArrayLike | Event = Event.RATE,
        ratings: ArrayLike | None = None,
        watch_seconds: ArrayLike | None = None,
    ) -> Self:
        """
        Interactions from anything array-like.

        Args:
            user_ids, item_ids, timestamps: (n,) as in the class.
            events: (n,) codes, or one event for all rows.
            ratings, watch_seconds: (n,) or None for unknown.

        Raises:
            ValueError: columns differ in length.
        """
        users = np.ascontiguousarray(user_ids, dtype=np.int64)
        n = len(users)
        codes = np.full(n, int(events), np.int8) if isinstance(events, Event) else np.asarray(events, np.int8)
        made = cls(
            users,
            np.ascontiguousarray(item_ids, dtype=np.int64),
            np.ascontiguousarray(timestamps, dtype=np.int64),
            np.ascontiguousarray(codes),
            _floats(ratings, n),
            _floats(watch_seconds, n),
        )
        lengths = {field.name: len(getattr(made, field.name)) for field in fields(made)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Columns must have one length, not {lengths}")
        return made

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Self:
        """
        Interactions from a table with (at least) the columns of `schema.INTERACTIONS`.

        Raises:
            SchemaError: a column is missing or cannot be cast, or holds nulls where it must not.
        """
        missing = [name for name in INTERACTIONS.names if name not in table.column_names]
        if missing:
            raise SchemaError(f"The interactions table lacks the columns {missing}.")
        table = _cast(table, INTERACTIONS, "interactions")
        labels = pa.array([event.label for event in Event])
        codes = pc.index_in(table["event"].combine_chunks(), value_set=labels)
        if codes.null_count:
            raise SchemaError(f"Unknown events; known: {labels.to_pylist()}")
        return cls(
            table["user_id"].to_numpy(),
            table["item_id"].to_numpy(),
            table["occurred_at"].cast(pa.int64()).to_numpy(),
            codes.to_numpy(zero_copy_only=False).astype(np.int8),
            table["rating"].to_numpy().astype(np.float32, copy=False),
            table["watch_seconds"].to_numpy().astype(np.float32, copy=False),
        )

    def to_arrow(self) -> pa.Table:
        """The same rows as a table of `schema.INTERACTIONS`; NaN becomes null."""
        labels = pa.array([event.label for event in Event])
        return pa.table(
            [
                pa.array(self.user_ids),
                pa.array(self.item_ids),
                labels.take(pa.array(self.events.astype(np.int32))),
                pa.array(self.ratings, from_pandas=True),
                pa.array(self.watch_seconds, from_pandas=True),
                pa.array(self.timestamps).cast(pa.timestamp("us", tz="UTC")),
            ],
            schema=INTERACTIONS,
        )

    def __len__(self) -> int:
        return len(self.user_ids)

    def take(self, rows: NDArray[Any] | slice) -> Self:
        """The rows of an index array, boolean mask or slice, in that order."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def sorted(self) -> Self:
        """The global order of the evaluation protocol: by (time, user, item), stable."""
        return self.take(np.lexsort((self.item_ids, self.user_ids, self.timestamps)))

    def before(self, timestamp: int) -> Self:
        """The rows strictly before a moment."""
        return self.take(self.timestamps < timestamp)

    def positives(self) -> Self:
        """The rows that tell taste: everything but `hide`."""
        return self.take(self.events != Event.HIDE)

    def matrix(self, users: Vocabulary, items: Vocabulary) -> CSR:
        """
        Binary user × item matrix of the rows whose ids are known to both vocabularies.

        Returns:
            (n_users, n_items) float32 CSR with sorted indices; repeated pairs count once.
        """
        row, column = users.index(self.user_ids), items.index(self.item_ids)
        known = (row >= 0) & (column >= 0)
        made = CSR(
            (np.ones(int(known.sum()), np.float32), (row[known], column[known])),
            shape=(len(users), len(items)),
        )
        made.sum_duplicates()
        made.data[:] = 1.0
        return made

    def histories(self, as_of: int | None = None) -> "Histories":
        """
        One history per distinct user, in the order of user id.

        Args:
            as_of: moment of the query for all of them; default: one microsecond after the last event.
        """
        users = np.unique(self.user_ids)
        moment = as_of if as_of is not None else int(self.timestamps.max(initial=0)) + 1
        return Histories.gather(self, users, np.full(len(users), moment))

    def digest(self) -> str:
        """SHA-256 of the columns, as hexadecimal: the id of a data snapshot."""
        sha = hashlib.sha256()
        for field in fields(self):
            sha.update(np.ascontiguousarray(getattr(self, field.name)).tobytes())
        return sha.hexdigest()


@dataclass(frozen=True, eq=False, slots=True)
class Histories:
    """
    What n users did before the moment of their query: the only thing a model knows of a user.

    Row i owns the events `indptr[i]:indptr[i + 1]`, oldest first (equal times by item id and event,
    so that their order carries no information).

    Attributes:
        indptr: (n + 1,) offsets.
        item_ids, timestamps, events, ratings, watch_seconds: (n_events,) as in `Interactions`.
        as_of: (n,) moment of each query, microseconds since 1970-01-01 UTC.
        user_ids: (n,) external ids; -1 for an anonymous session.
    """

    indptr: Index
    item_ids: Ids
    timestamps: Microseconds
    events: EventCodes
    ratings: Vector
    watch_seconds: Vector
    as_of: Microseconds
    user_ids: Ids

    @classmethod
    def gather(cls, interactions: Interactions, user_ids: ArrayLike, as_of: ArrayLike) -> Self:
        """
        Histories of given users strictly before their moments.

        Args:
            interactions: where to look; any order.
            user_ids: (n,) external ids, repetition allowed (one user, several moments).
            as_of: (n,) moments.
        """
        users = np.asarray(user_ids, dtype=np.int64)
        moments = np.broadcast_to(np.asarray(as_of, dtype=np.int64), users.shape).copy()
        ordered = interactions.take(
            np.lexsort(
                (interactions.events, interactions.item_ids, interactions.timestamps, interactions.user_ids)
            )
        )
        start = np.searchsorted(ordered.user_ids, users, side="left")
        stop = np.searchsorted(ordered.user_ids, users, side="right")
        end = np.array(
            [
                first + np.searchsorted(ordered.timestamps[first:last], moment, side="left")
                for first, last, moment in zip(start, stop, moments, strict=True)
            ],
            dtype=np.int64,
        ).reshape(users.shape)
        lengths = end - start
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - start, lengths)
        taken = ordered.take(rows)
        return cls(
            indptr,
            taken.item_ids,
            taken.timestamps,
            taken.events,
            taken.ratings,
            taken.watch_seconds,
            moments,
            users,
        )

    @classmethod
    def of_items(cls, *item_ids: Sequence[int]) -> Self:
        """
        Histories from plain lists of liked items, oldest first: for notebooks and anonymous sessions.

        >>> len(Histories.of_items([603, 604], [862]))
        2
        """
        lengths = [len(items) for items in item_ids]
        flat = np.array([item for items in item_ids for item in items], dtype=np.int64)
        position = np.array([i for n in lengths for i in range(n)], dtype=np.int64)
        users = np.repeat(np.arange(len(item_ids)), np.array(lengths, dtype=np.int64))
        made = Interactions.of(users, flat, position, events=Event.LIKE)
        moment = int(position.max(initial=0)) + 1
        gathered = cls.gather(made, np.arange(len(item_ids)), moment)
        return replace(gathered, user_ids=np.full(len(item_ids), -1, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.as_of)

    @property
    def lengths(self) -> Index:
        """(n,) number of events of each history."""
        return np.diff(self.indptr)

    @property
    def rows(self) -> Index:
        """(n_events,) the history to which each event belongs."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: Index | slice) -> Self:
        """The histories of the given rows, in that order."""
        chosen = np.arange(len(self))[rows]
        lengths = self.lengths[chosen]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - self.indptr[:-1][chosen], lengths)
        return type(self)(
            indptr,
            self.item_ids[events],
            self.timestamps[events],
            self.events[events],
            self.ratings[events],
            self.watch_seconds[events],
            self.as_of[chosen],
            self.user_ids[chosen],
        )

    def where(self, mask: NDArray[np.bool_]) -> Self:
        """The same histories with only the events of a (n_events,) mask."""
        if mask.all():
            return self
        lengths = np.bincount(self.rows[mask], minlength=len(self))
        return type(self)(
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            self.item_ids[mask],
            self.timestamps[mask],
            self.events[mask],
            self.ratings[mask],
            self.watch_seconds[mask],
            self.as_of,
            self.user_ids,
        )

    def last(self, n: int) -> Self:
        """The same histories cut to their newest n events."""
        position = np.arange(len(self.item_ids))
        return self.where(position >= np.repeat(self.indptr[1:] - n, self.lengths))

    def matrix(self, items: Vocabulary, weights: Vector | None = None) -> CSR:
        """
        User × item matrix of the positive events whose items are known.

        Args:
            items: the columns.
            weights: (n_events,) value of each event; default 1. Of a repeated item the largest counts.

        Returns:
            (n, n_items) float32 CSR with sorted indices.
        """
        column = items.index(self.item_ids)
        known = (column >= 0) & (self.events != Event.HIDE)
        values = np.ones(len(column), np.float32) if weights is None else weights.astype(np.float32)
        row, column, values = self.rows[known], column[known], values[known]
        # The largest of each (row, column) comes last, and the last of a run is kept.
        order = np.lexsort((values, column, row))
        row, column, values = row[order], column[order], values[order]
        keep = np.ones(len(row), dtype=bool)
        keep[:-1] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
        row, column, values = row[keep], column[keep], values[keep]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(self)))])
        return CSR((values, column, indptr), shape=(len(self), len(items)))


class Catalog:
    """
    Facts of items, as a table of `schema.ITEMS` sorted by item id.

    Args:
        table: at least `item_id` and `title`; absent columns are filled with nulls.

    Raises:
        SchemaError: `item_id` or `title` is missing, a type cannot be cast, ids are null or repeat.
    """

    def __init__(self, table: pa.Table) -> None:
        missing = [name for name in ("item_id", "title") if name not in table.column_names]
        if missing:
            raise SchemaError(f"The items table lacks the columns {missing}.")
        for name in [field.name for field in ITEMS if field.name not in table.column_names]:
            table = table.append_column(name, pa.nulls(len(table), ITEMS.field(name).type))
        table = _cast(table, ITEMS, "items").sort_by("item_id").combine_chunks()
        try:
            self.items = Vocabulary(table["item_id"].to_numpy())
        except ValueError as error:
            raise SchemaError(f"The items table is not a set: {error}") from error
        self.table: pa.Table = table

    def __len__(self) -> int:
        return len(self.table)

    @property
    def item_ids(self) -> Ids:
        """(n_items,) external ids, ascending."""
        return self.items.ids

    def align(self, items: Vocabulary) -> pa.Table:
        """
        The facts in the order of a vocabulary.

        Returns:
            A table of `schema.ITEMS` with one row per id of `items`; all null (but the id) where unknown.
        """
        rows = self.items.index(items.ids)
        aligned = self.table.take(pa.array(rows, mask=rows < 0))
        return aligned.set_column(0, "item_id", pa.array(items.ids))
