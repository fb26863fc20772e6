"""
Features of items and users as of a moment, from nothing that happened at or after it.

Everything is built from aggregates that merge: counts, sums in fixed point, and exponentially decayed counts
anchored at the moment. So rows are read in chunks of bounded memory, a snapshot continues from the one
before it, and the same rows give the same bytes in whatever order and chunks they come.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from marquee.data.dataset import Catalog
from marquee.data.schema import INTERACTIONS, Event
from marquee.errors import DataError

__all__ = ["HALF_LIVES_DAYS", "FeatureSnapshot", "build"]

HALF_LIVES_DAYS: Final = (7, 30, 90)
"""Half-lives of the decayed counts that popularity and its trend are made of."""

CHUNK_ROWS: Final = 1_000_000
DAY: Final = 86_400_000_000  # µs
FIXED: Final = 1 << 20  # sums of fractions are kept as integers in this unit: order cannot change them
WEIGHT: Final = 1 << 32  # likewise for decayed counts


@dataclass(frozen=True, eq=False)
class FeatureSnapshot:
    """
    Features as of one moment.

    Attributes:
        as_of: microseconds since 1970-01-01 UTC; every row used happened strictly before.
        items: by `item_id`: `genres, era` (decade)`, language, keywords, people, age_days, n_events,
            mean_rating, popularity` (decayed counts, one column a half-life) and `trend`
            (log ratio of the rate of late to that of the longest half-life; > 0: rising).
        users: by `user_id`: `n_events, n_ratings, mean_rating, mean_completion` (share of the runtime
            watched)`, tenure_days, recency_days`.
        user_genres: by `(user_id, genre)`: `n_events, share` of the user's events`, mean_rating`.
    """

    as_of: int
    items: pa.Table
    users: pa.Table
    user_genres: pa.Table
    _aggregates: "Aggregates"

    def advance(self, interactions: pa.Table | Iterable[pa.Table], catalog: Catalog, as_of: int) -> Self:
        """
        The snapshot of a later moment, from the rows in between alone.

        Args:
            interactions: rows of `schema.INTERACTIONS`; those before this snapshot are counted already and
                left out, those from `as_of` on are left out as well.
            catalog: facts of items, as they are known at the later moment.
            as_of: the later moment.

        Raises:
            ValueError: the moment is not later.
        """
        if as_of <= self.as_of:
            raise ValueError(f"as_of must be later than {self.as_of}, not {as_of}")
        aggregates = self._aggregates.decayed(as_of - self.as_of)
        for chunk in _chunks(interactions):
            aggregates = aggregates.merged(_aggregate(chunk, catalog, as_of, since=self.as_of))
        return type(self)(as_of, *_features(aggregates, catalog, as_of), aggregates)

    def write(self, directory: Path) -> Path:
        """
        Write the tables as Parquet into `directory/<digest>/`; the same features have the same name.

        Returns:
            The folder.
        """
        parts = {name: _parquet(table) for name, table in self._tables().items()}
        digest = hashlib.sha256(b"".join(parts[name] for name in sorted(parts))).hexdigest()
        folder = directory / digest
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in parts.items():
            half = folder / f".{name}.part"
            half.write_bytes(content)
            half.replace(folder / f"{name}.parquet")
        return folder

    def _tables(self) -> dict[str, pa.Table]:
        tables = {"items": self.items, "users": self.users, "user_genres": self.user_genres}
        metadata = {b"as_of": str(self.as_of).encode()}
        return {name: table.replace_schema_metadata(metadata) for name, table in tables.items()}


@dataclass(frozen=True, eq=False)
class Aggregates:
    """What the features are computed from; each frame is sorted by its key."""

    items: pl.DataFrame
    users: pl.DataFrame
    user_genres: pl.DataFrame

    def merged(self, other: "Aggregates") -> "Aggregates":
        """The aggregates of the rows of both."""
        return Aggregates(
            _sum_by(pl.concat([self.items, other.items]), ["item_id"]),
            _sum_by(pl.concat([self.users, other.users]), ["user_id"]),
            _sum_by(pl.concat([self.user_genres, other.user_genres]), ["user_id", "genre"]),
        )

    def decayed(self, microseconds: int) -> "Aggregates":
        """The aggregates as they are seen from a later moment."""
        factors = [
            (pl.col(_decayed(h)) * 2.0 ** (-microseconds / (h * DAY))).round().cast(pl.Int64)
            for h in HALF_LIVES_DAYS
        ]
        return Aggregates(self.items.with_columns(factors), self.users, self.user_genres)


def build(interactions: pa.Table | Iterable[pa.Table], catalog: Catalog, as_of: int) -> FeatureSnapshot:
    """
    Features as of a moment.

    Args:
        interactions: rows of `schema.INTERACTIONS`, in any order; in one table or several.
        catalog: facts of items. Facts that change with time are not among them: popularity is counted.
        as_of: microseconds since 1970-01-01 UTC; rows at or after it are not used.

    Raises:
        DataError: no row is before the moment.
    """
    aggregates: Aggregates | None = None
    for chunk in _chunks(interactions):
        part = _aggregate(chunk, catalog, as_of)
        aggregates = part if aggregates is None else aggregates.merged(part)
    if aggregates is None or aggregates.users.is_empty():
        raise DataError("No interaction happened before the moment of the snapshot.", fix="Take a later one.")
    return FeatureSnapshot(as_of, *_features(aggregates, catalog, as_of), aggregates)


def _chunks(interactions: pa.Table | Iterable[pa.Table]) -> Iterator[pl.DataFrame]:
    for table in [interactions] if isinstance(interactions, pa.Table) else interactions:
        chosen = table.select(INTERACTIONS.names)
        for start in range(0, len(chosen), CHUNK_ROWS):
            yield pl.DataFrame(chosen.slice(start, CHUNK_ROWS))


def _aggregate(rows: pl.DataFrame, catalog: Catalog, as_of: int, since: int | None = None) -> Aggregates:
    moment = pl.col("occurred_at").dt.timestamp("us")
    inside = moment < as_of if since is None else (moment >= since) & (moment < as_of)
    facts = _facts(catalog)
    completion = (pl.col("watch_seconds") / (pl.col("runtime_minutes") * 60.0)).clip(0.0, 1.0)
    events = (
        rows.lazy()
        .with_columns(moment.alias("at"))
        .filter(inside)
        .join(facts.lazy().select("item_id", "runtime_minutes"), on="item_id", how="left")
        .select(
            "user_id",
            "item_id",
            "at",
            (pl.col("event") != Event.HIDE.label).alias("positive"),
            pl.col("rating").is_not_null().cast(pl.Int64).alias("n_ratings"),
            (pl.col("rating").cast(pl.Float64) * FIXED).round().cast(pl.Int64).fill_null(0).alias("ratings"),
            completion.is_not_null().cast(pl.Int64).alias("n_completions"),
            (completion.cast(pl.Float64) * FIXED).round().cast(pl.Int64).fill_null(0).alias("completions"),
            *[
                ((-(as_of - pl.col("at")) / (h * DAY)).cast(pl.Float64) * 0.6931471805599453)
                .exp()
                .mul(WEIGHT)
                .round()
                .cast(pl.Int64)
                .alias(_decayed(h))
                for h in HALF_LIVES_DAYS
            ],
        )
        .collect()
    )
    count = pl.lit(1, pl.Int64).alias("n_events")
    first, last = pl.col("at").alias("first_at"), pl.col("at").alias("last_at")
    positives = events.filter("positive")
    decayed = [_decayed(h) for h in HALF_LIVES_DAYS]
    genres = (
        facts.lazy().select("item_id", "genres").explode("genres").rename({"genres": "genre"}).drop_nulls()
    )
    by_genre = (
        positives.lazy()
        .group_by("user_id", "item_id")  # before the join: it multiplies rows by their genres
        .agg(pl.len().cast(pl.Int64).alias("n_events"), pl.col("n_ratings").sum(), pl.col("ratings").sum())
        .join(genres, on="item_id")
        .drop("item_id")
        .collect()
    )
    return Aggregates(
        _sum_by(positives.select("item_id", count, "n_ratings", "ratings", *decayed), ["item_id"]),
        _sum_by(
            events.select(
                "user_id", count, "n_ratings", "ratings", "n_completions", "completions", first, last
            ),
            ["user_id"],
        ),
        _sum_by(
            by_genre.select("user_id", "genre", "n_events", "n_ratings", "ratings"), ["user_id", "genre"]
        ),
    )


def _features(aggregates: Aggregates, catalog: Catalog, as_of: int) -> tuple[pa.Table, pa.Table, pa.Table]:
    mean_rating = (
        pl.when(pl.col("n_ratings") > 0).then(pl.col("ratings") / pl.col("n_ratings") / FIXED)
    ).cast(pl.Float32)
    long, short = HALF_LIVES_DAYS[-1], HALF_LIVES_DAYS[0]
    # A steady item has decayed counts in proportion to the half-lives; one event is added to both sides.
    trend = (
        (pl.col(_decayed(short)) / WEIGHT * (long / short) + 1.0) / (pl.col(_decayed(long)) / WEIGHT + 1.0)
    ).log()
    items = (
        _facts(catalog)
        .join(aggregates.items, on="item_id", how="full", coalesce=True)
        .sort("item_id")
        .select(
            "item_id",
            "genres",
            ((pl.col("release_date").dt.year() // 10) * 10).cast(pl.Int32).alias("era"),
            pl.col("original_language").alias("language"),
            "keywords",
            "people",
            ((as_of - pl.col("release_date").cast(pl.Datetime("us")).dt.timestamp("us")) / DAY)
            .cast(pl.Float32)
            .alias("age_days"),
            pl.col("n_events").fill_null(0),
            mean_rating.alias("mean_rating"),
            *[
                (pl.col(_decayed(h)).fill_null(0) / WEIGHT).cast(pl.Float32).alias(f"popularity_{h}d")
                for h in HALF_LIVES_DAYS
            ],
            trend.fill_null(0.0).cast(pl.Float32).alias("trend"),
        )
    )
    users = aggregates.users.select(
        "user_id",
        "n_events",
        "n_ratings",
        mean_rating.alias("mean_rating"),
        (pl.when(pl.col("n_completions") > 0).then(pl.col("completions") / pl.col("n_completions") / FIXED))
        .cast(pl.Float32)
        .alias("mean_completion"),
        ((as_of - pl.col("first_at")) / DAY).cast(pl.Float32).alias("tenure_days"),
        ((as_of - pl.col("last_at")) / DAY).cast(pl.Float32).alias("recency_days"),
    )
    total = pl.col("n_events").sum().over("user_id")
    user_genres = aggregates.user_genres.select(
        "user_id",
        "genre",
        "n_events",
        (pl.col("n_events") / total).cast(pl.Float32).alias("share"),
        mean_rating.alias("mean_rating"),
    )
    return items.to_arrow(), users.to_arrow(), user_genres.to_arrow()


def _facts(catalog: Catalog) -> pl.DataFrame:
    names = [
        "item_id",
        "genres",
        "keywords",
        "people",
        "release_date",
        "runtime_minutes",
        "original_language",
    ]
    return pl.DataFrame(catalog.table.select(names))


def _sum_by(frame: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    how = {"first_at": pl.col("first_at").min(), "last_at": pl.col("last_at").max()}
    rest = [name for name in frame.columns if name not in key]
    return (
        frame.lazy()
        .group_by(key)
        .agg([how.get(name, pl.col(name).sum()) for name in rest])
        .sort(key)
        .collect()
    )


def _decayed(half_life_days: int) -> str:
    return f"decayed_{half_life_days}d"


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
