"""
What a feature store must offer, and the built-in one.

A view is features of one kind of thing, keyed by its id, as of moments: a row holds what was known from
events strictly before its `as_of`. Offline, a row of a training set that happened `at` a moment gets the
newest features whose `as_of` is not later, so nothing at or after `at` is in them. Online, a request asks
for one user at most; features of items are a matrix in the process.

A feature store may only carry: what it gives back equals, row by row, what the built-in join gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import numpy as np
import pyarrow as pa

from marquee.data.dataset import Interactions
from marquee.data.schema import Ids, Matrix
from marquee.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from marquee.features.snapshot import FeatureSnapshot

__all__ = [
    "AS_OF",
    "AT",
    "VIEWS",
    "BuiltinFeatures",
    "FeatureStore",
    "HistoricalJoin",
    "ItemMatrix",
    "join_as_of",
    "moments",
    "newest_rows",
    "training_rows",
    "user_row",
    "view_tables",
]

VIEWS: Final[Mapping[str, str]] = {"items": "item_id", "users": "user_id", "user_genres": "user_id"}
"""View → its key. The genres of a user are lists in one row, so that one look-up gets all of them."""
AS_OF: Final = "as_of"
AT: Final = "at"
MOMENT: Final = pa.timestamp("us", "UTC")

Row = Mapping[str, Any]


class HistoricalJoin(Protocol):
    """Features of things as of moments: `join_as_of`, or the same by a feature store."""

    def __call__(self, features: pa.Table, entities: pa.Table, key: str) -> pa.Table:
        """
        Give each row the newest features that are not later than it.

        Args:
            features: `key`, `as_of` and the features; one row for a key and a moment.
            entities: `key`, `at`, and whatever else, which is left out.
            key: name of an int64 column.

        Returns:
            The features in the order of `entities`, null where there are none yet.
        """


class FeatureStore(Protocol):
    """Where features are kept."""

    def join(self, view: str, entities: pa.Table) -> pa.Table:
        """As `HistoricalJoin`, with the features of a view."""

    def user(self, user_id: int) -> Row | None:
        """Newest features of a user by name, those of `user_genres` as `genre_…`; None: there are none."""

    def items(self) -> "ItemMatrix":
        """Newest numeric features of all items."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, eq=False)
class ItemMatrix:
    """
    Numeric features of items in the process.

    Attributes:
        ids: of the rows.
        names: of the columns.
        values: (n_items + 1, n_features) float32, NaN where unknown; the last row is that of unknown items.
    """

    ids: Vocabulary
    names: tuple[str, ...]
    values: Matrix

    @classmethod
    def of(cls, table: pa.Table) -> Self:
        """The numeric columns of a table with one row for each `item_id`."""
        names = tuple(
            field.name
            for field in table.schema
            if field.name != "item_id"
            and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
        )
        values = np.full((len(table) + 1, len(names)), np.nan, np.float32)
        for column, name in enumerate(names):
            values[:-1, column] = table[name].cast(pa.float32()).to_numpy()
        values.flags.writeable = False
        return cls(Vocabulary(table["item_id"].to_numpy()), names, values)

    def rows(self, item_ids: Ids | Sequence[int]) -> Matrix:
        """(n, n_features) of items by id."""
        return self.values[self.ids.index(item_ids)]  # −1, the index of what is unknown, is the last row


class BuiltinFeatures:
    """
    The built-in feature store: tables in memory.

    Args:
        tables: view → key, `as_of` and features, as `view_tables` makes them.
    """

    def __init__(self, tables: Mapping[str, pa.Table]) -> None:
        self._tables = tables
        self._users: tuple[Vocabulary, dict[str, pa.Table]] | None = None

    def join(self, view: str, entities: pa.Table) -> pa.Table:
        """See `FeatureStore`."""
        return join_as_of(self._tables[view], entities, VIEWS[view])

    def user(self, user_id: int) -> Row | None:
        """See `FeatureStore`."""
        if self._users is None:
            newest = {
                view: newest_rows(self._tables[view], key) for view, key in VIEWS.items() if view != "items"
            }
            self._users = Vocabulary(newest["users"]["user_id"].to_numpy()), newest
        ids, newest = self._users
        [row] = ids.index([user_id])
        if row < 0:
            return None
        found = {view: table.slice(row, 1).to_pylist()[0] for view, table in newest.items()}
        return user_row(found["users"], found["user_genres"])

    def items(self) -> ItemMatrix:
        """See `FeatureStore`."""
        return ItemMatrix.of(newest_rows(self._tables["items"], "item_id"))

    def close(self) -> None:
        """See `FeatureStore`; there are none."""


def join_as_of(features: pa.Table, entities: pa.Table, key: str) -> pa.Table:
    """The built-in `HistoricalJoin`."""
    import polars as pl  # a model that serves joins nothing, and need not pay for it

    names = [name for name in features.column_names if name not in (key, AS_OF)]
    asked = pl.DataFrame(entities.select([key, AT])).with_row_index("_row").sort(AT)
    known = pl.DataFrame(features).sort(AS_OF)
    joined = asked.join_asof(
        known, left_on=AT, right_on=AS_OF, by=key, strategy="backward", check_sortedness=False
    )
    return joined.sort("_row").select(names).to_arrow().cast(features.select(names).schema)


def view_tables(snapshots: "Sequence[FeatureSnapshot]") -> dict[str, pa.Table]:
    """
    Snapshots as views.

    Args:
        snapshots: of moments of their own.

    Returns:
        View → key, `as_of` and features, one row for each thing and moment.
    """
    made: dict[str, list[pa.Table]] = {view: [] for view in VIEWS}
    for snapshot in snapshots:
        of = {"items": snapshot.items, "users": snapshot.users, "user_genres": _by_user(snapshot)}
        for view, table in of.items():
            moment = pa.array(np.full(len(table), snapshot.as_of), MOMENT)
            made[view].append(_small(table).add_column(1, AS_OF, moment))
    return {view: pa.concat_tables(parts).combine_chunks() for view, parts in made.items()}


def moments(interactions: Interactions, count: int) -> list[int]:
    """Up to `count` moments with about as many events between them; the last is behind all events."""
    times = np.sort(interactions.timestamps)
    at = np.linspace(0, len(times) - 1, count + 1).astype(np.int64)[1:]
    return [int(moment) for moment in np.unique(times[at] + 1)]


def training_rows(store: FeatureStore, interactions: Interactions) -> pa.Table:
    """
    A training set: each interaction with what was known before it.

    Args:
        store: where the features are.
        interactions: the rows; their order is kept.

    Returns:
        `user_id, item_id, at`, and the features of the views as `<view>__<name>`.
    """
    rows = pa.table(
        {
            "user_id": interactions.user_ids,
            "item_id": interactions.item_ids,
            AT: pa.array(interactions.timestamps, MOMENT),
        }
    )
    made = rows
    for view in VIEWS:
        joined = store.join(view, rows)
        for name in joined.column_names:
            made = made.append_column(f"{view}__{name}", joined[name])
    return made


def newest_rows(table: pa.Table, key: str) -> pa.Table:
    """The rows of a view at its newest moment, by their key."""
    import polars as pl

    frame = pl.DataFrame(table)
    newest = frame.filter(pl.col(AS_OF) == pl.col(AS_OF).max()).drop(AS_OF).sort(key)
    return newest.to_arrow().cast(table.drop_columns([AS_OF]).schema)


def user_row(user: Row, genres: Row) -> Row:
    """A row of `users` and one of `user_genres` as one answer."""
    return {**user, **{f"genre_{name}": value for name, value in genres.items() if name != "user_id"}}


def _by_user(snapshot: "FeatureSnapshot") -> pa.Table:
    """`user_genres`, a row for each user of `users`: their genres and, in the same order, the numbers."""
    import polars as pl

    genres = pl.DataFrame(snapshot.user_genres).sort("user_id", "genre")
    grouped = genres.group_by("user_id", maintain_order=True).agg(
        pl.col("genre").alias("name"),
        "n_events",
        "share",
        pl.col("mean_rating").fill_null(float("nan")),  # stores keep no null inside a list
    )
    users = pl.DataFrame(snapshot.users).select("user_id")
    lists = [pl.col(name) for name in grouped.columns if name != "user_id"]
    every = users.join(grouped, on="user_id", how="left", maintain_order="left")
    return every.with_columns([column.fill_null([]) for column in lists]).to_arrow()


def _small(table: pa.Table) -> pa.Table:
    """The same without the types of large texts and lists, which few stores know."""

    def small(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_large_list(kind):
            return pa.list_(small(kind.value_type))
        return pa.string() if pa.types.is_large_string(kind) else kind

    return table.cast(pa.schema([(field.name, small(field.type)) for field in table.schema]))
