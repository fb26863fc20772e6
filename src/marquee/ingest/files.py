"""
Ratings and facts straight from files, for an evaluation that needs no database.

The formats are those of `ingest`: MovieLens tables (`user_id, movie_id, rating` in stars`, timestamp`), or
the user's own logs and catalogue. Item ids are those of the ratings file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa

from marquee.data import Catalog, Interactions
from marquee.data.leaks import CHANGING_FACTS
from marquee.data.schema import INTERACTIONS, ITEMS
from marquee.errors import SchemaError
from marquee.ingest.movielens import (
    ALIASES,
    SourceFile,
    as_interactions,
    read_facts,
    read_links,
    read_movies,
)
from marquee.ingest.readers import read_csv, read_table
from marquee.ingest.tables import ALIASES as TABLE_ALIASES
from marquee.ingest.validate import check_interactions, check_items

__all__ = ["FileData", "read_files"]

STARS: Final = {"movie_id", "rating", "timestamp"}
YEAR_IN_TITLE: Final = r"\((\d{4})\)\s*$"


@dataclass(frozen=True, eq=False)
class FileData:
    """
    What files hold.

    Attributes:
        catalog: None where no file of items was given.
        rejected: rows of the ratings that break the contract and are left out.
        changing_facts: popularity and votes of the facts file, `observed_at` among them where it has one;
            they are not part of the catalogue.
    """

    interactions: Interactions
    catalog: Catalog | None
    rejected: int
    changing_facts: pa.Table | None


def read_files(ratings: Path, items: Path | None = None, facts: Path | None = None) -> FileData:
    """
    Read interactions and a catalogue.

    Args:
        ratings: MovieLens ratings (stars are doubled to 0–10) or a log in the format of
            `ingest interactions`; CSV, `ratings.dat`, JSON Lines or Parquet.
        items: MovieLens films (`movie_id, title, genres`, and `tmdb_id` to join facts) or a catalogue in the
            format of `ingest items`.
        facts: TMDB facts by `tmdb_id`, for MovieLens films.

    Raises:
        SchemaError: a file is missing or lacks a column.
    """
    good, rejected, stars = _interactions(ratings)
    catalog = None if items is None else _catalog(items, facts, movielens=stars)
    if facts is not None and catalog is None:
        raise SchemaError("Facts need a file of items to join.", fix="Give --items, with tmdb_id.")
    interactions = Interactions.from_arrow(good.select(INTERACTIONS.names).to_arrow())
    return FileData(interactions, catalog, rejected, None if facts is None else _changing(facts))


def _changing(facts: Path) -> pa.Table:
    wanted = CHANGING_FACTS | {"observed_at"}
    frames = [
        chunk.frame.select(c for c in chunk.frame.columns if c in wanted) for chunk in read_table(facts, {})
    ]
    return pl.concat(frames).to_arrow()


def _interactions(path: Path) -> tuple[pl.DataFrame, int, bool]:
    if path.suffix == ".dat":
        header = ["user_id", "_1", "movie_id", "_2", "rating", "_3", "timestamp"]
        chunks = read_csv(lambda: path.open("rb"), path.name, {}, separator=":", header=header)
    else:
        chunks = read_table(path, ALIASES)
    parts: list[pl.DataFrame] = []
    rejected, stars = 0, False
    for chunk in chunks:
        stars = set(chunk.frame.columns) >= STARS
        if stars:
            same_ids = pl.DataFrame(schema={"movie_id": pl.Int64, "item_id": pl.Int64})
            raw = as_interactions(chunk.frame, same_ids, 0)
        else:
            known = set(TABLE_ALIASES) & set(chunk.frame.columns)
            raw = chunk.frame.rename({name: TABLE_ALIASES[name] for name in known})
        checked = check_interactions(raw)
        parts.append(checked.good)
        rejected += len(checked.rejected) + len(chunk.malformed)
    if not parts:
        raise SchemaError(f"{path} holds no rows.", fix="Check the file.")
    return pl.concat(parts), rejected, stars


def _catalog(path: Path, facts: Path | None, *, movielens: bool) -> Catalog:
    if not movielens:
        raw = pl.concat([chunk.frame for chunk in read_table(path, TABLE_ALIASES, multiline=True)])
        return Catalog(check_items(raw).good.unique("item_id", keep="last").select(ITEMS.names).to_arrow())
    file = SourceFile.at(path)
    films = read_movies(file).unique("movie_id", keep="first")
    year = pl.col("title").str.extract(YEAR_IN_TITLE).cast(pl.Int32, strict=False)
    named = films.select(
        pl.col("movie_id").alias("item_id"),
        pl.coalesce("title", pl.format("film {}", "movie_id")),
        pl.col("genres").replace("(no genres listed)", None).str.split("|"),
        pl.date(year, 1, 1).alias("release_date"),
    )
    if facts is not None:
        links = read_links(file)
        known = read_facts(SourceFile.at(facts), links["tmdb_id"])
        known = known.select(c for c in ITEMS.names if c in known.columns).rename({"item_id": "tmdb_id"})
        released = pl.col("release_date_of_facts").cast(pl.Date, strict=False)
        named = (
            named.join(links, left_on="item_id", right_on="movie_id", how="left")
            .join(known, on="tmdb_id", how="left", suffix="_of_facts")
            .with_columns(
                title=pl.coalesce("title_of_facts", "title"),
                genres=pl.coalesce("genres_of_facts", "genres"),
                release_date=pl.coalesce(released, "release_date"),
            )
        )
    return Catalog(check_items(named.select(c for c in ITEMS.names if c in named.columns)).good.to_arrow())
