"""
MovieLens ratings, in every form they come in, joined to TMDB ids.

A film with a TMDB id is that item. A film without one keeps its MovieLens id in a range of its own, so that
no rating is lost: `UNLINKED + movie_id`, and for the 100K edition, which numbers films in its own way,
`UNLINKED_100K + movie_id`. Where several MovieLens films are one TMDB film their ratings stay apart (the
event key has the MovieLens id) and the item takes the facts of the lowest MovieLens id.

Source: Harper & Konstan 2015, "The MovieLens Datasets: History and Context".
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Final

import polars as pl

from marquee.errors import SchemaError
from marquee.ingest.load import IngestReport, Intake, Progress
from marquee.ingest.readers import DAMAGED, Chunk, read_csv, read_table
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database

__all__ = [
    "ROLES",
    "UNLINKED",
    "UNLINKED_100K",
    "SourceFile",
    "as_interactions",
    "ingest_movielens",
    "read_facts",
    "read_links",
    "read_movies",
]

UNLINKED: Final = 10**12
UNLINKED_100K: Final = 2 * 10**12

ROLES: Final = ("ratings", "links", "movies", "facts")
"""What a file of a data set is for. It stands in the name of the raw file: loose files do not tell it."""

RATING_COLUMNS: Final = ("user_id", "movie_id", "rating", "timestamp")
ALIASES: Final = {"userId": "user_id", "movieId": "movie_id", "tmdbId": "tmdb_id", "imdbId": "imdb_id"}
NO_GENRES: Final = "(no genres listed)"
TMDB_SPELLING: Final = {
    "Children": "Family",
    "Children's": "Family",
    "Musical": "Music",
    "Sci-Fi": "Science Fiction",
}
GENRES_100K: Final = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)
SAME_AS_ITEMS: Final = (
    *("original_title", "release_date", "original_language", "poster_path", "backdrop_path", "adult"),
    *("popularity", "vote_average", "vote_count", "overview", "tagline"),
)
MAX_MOVIE_LIST_BYTES: Final = 64 << 20
"""Of the old formats, which are read whole; the longest, of the 10M edition, has half a mebibyte."""
MOVIE_SCHEMA: Final = {"movie_id": pl.Int64, "title": pl.String, "genres": pl.String}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a data set, in a directory or in a zip; `kept` is what goes to the object store."""

    name: str
    kept: Path
    open: Callable[[], IO[bytes]]
    in_zip: bool = False

    @classmethod
    def at(cls, path: Path) -> "SourceFile":
        """A plain file."""
        return cls(path.name, path, lambda: path.open("rb"))


def ingest_movielens(
    database: Database,
    objects: ObjectStore,
    directory: Path,
    *,
    ratings: str | None = None,
    links: str | None = None,
    facts: str | None = None,
    source: str = "movielens",
    progress: Progress | None = None,
    now: datetime | None = None,
) -> IngestReport:
    """
    Load a MovieLens data set: its ratings (stars doubled to 0–10, at their original time) and rated films.

    Items that another source has brought keep its facts.

    Args:
        directory: an unpacked data set, its zip, or a folder with the files named below.
        ratings: file name; default: the first of `ratings.csv`, `ratings.dat`, `u.data`, `ratings.parquet`.
        links: file with `movie_id` and `tmdb_id` (and perhaps `title`, `genres`); default: `links.csv` or
            `links.parquet`, where there is one.
        facts: file with TMDB facts by `tmdb_id`: titles, posters, overviews; default: none.
        source: its name in the tables. User ids of two editions mean different people: keep them apart.
        now: the moment of the run; default: the clock.

    Raises:
        SchemaError: no ratings there, or a file is not as it should be.
    """
    files = _files(directory)
    rating_file = _pick(
        files, ratings, ("ratings.csv", "ratings.dat", "u.data", "ratings.parquet"), directory
    )
    if rating_file is None:
        raise SchemaError(
            f"There are no MovieLens ratings in {directory}.",
            fix="Give the folder or zip that holds ratings.csv, ratings.dat or u.data, or name the file.",
        )
    link_file = _pick(files, links, ("links.csv", "links.parquet"), directory)
    movie_file = _pick(files, None, ("movies.csv", "movies.dat", "u.item"), directory)
    fact_file = _pick(files, facts, (), directory)

    intake = Intake(database, objects, source, progress, now=now)
    kept: dict[Path, str] = {}
    for role, file in zip(ROLES, (rating_file, link_file, movie_file, fact_file), strict=True):
        if file is not None:
            kept.setdefault(file.kept, "" if file.in_zip else f".movielens-{role}")
    for path, role in kept.items():  # the ratings first: what comes behind them belongs to them
        intake.keep(path, role + "".join(path.suffixes[-1:]).lower())

    base = UNLINKED_100K if rating_file.name == "u.data" else UNLINKED
    movies = _movies(link_file, movie_file, base)
    known = movies.select("movie_id", "item_id")
    rated: list[pl.DataFrame] = []
    for chunk in _ratings(rating_file):
        intake.reject(chunk.malformed)
        stored = intake.interactions(as_interactions(chunk.frame, known, base))
        rated.append(stored.select("item_id").unique())
    if rated:
        intake.items(_items(pl.concat(rated).unique(), movies, fact_file), fill_only=True)
    return intake.report()


def _files(directory: Path) -> dict[str, SourceFile]:
    """Files by base name."""
    if directory.is_dir():
        return {path.name: SourceFile.at(path) for path in sorted(directory.iterdir()) if path.is_file()}
    if not zipfile.is_zipfile(directory):
        raise SchemaError(f"{directory} is neither a folder nor a zip.", fix="Check the path.")
    # Nothing is unpacked to the disk: members are found by the last part of their name, wherever it leads.
    try:
        with zipfile.ZipFile(directory) as archive:
            members = [info.filename for info in archive.infolist() if not info.is_dir()]
    except DAMAGED as error:
        raise _not_readable(directory.name, error) from None
    return {
        Path(member).name: SourceFile(
            Path(member).name, directory, partial(_open_member, directory, member), True
        )
        for member in members
    }


def _open_member(path: Path, member: str) -> IO[bytes]:
    try:
        return zipfile.ZipFile(path).open(member)
    except (*DAMAGED, RuntimeError) as error:  # encrypted, or packed in a way that Python does not know
        raise _not_readable(f"{member} in {path.name}", error) from None


def _not_readable(name: str, error: Exception) -> SchemaError:
    return SchemaError(f"{name} cannot be unpacked: {error}.", fix="Download it again, or unpack it first.")


def _pick(
    files: Mapping[str, SourceFile], named: str | None, usual: tuple[str, ...], directory: Path
) -> SourceFile | None:
    if named is None:
        return next((files[name] for name in usual if name in files), None)
    if named in files:
        return files[named]
    path = Path(named) if Path(named).is_absolute() or not directory.is_dir() else directory / named
    if not path.is_file():
        raise SchemaError(f"There is no file {named} in {directory}.", fix="Check its name.")
    return SourceFile.at(path)


def _table(file: SourceFile) -> Iterator[Chunk]:
    if not file.in_zip:
        return read_table(file.kept, ALIASES, multiline=True)
    if not file.name.endswith(".csv"):
        raise SchemaError(f"{file.name} cannot be read from inside a zip.", fix="Unpack the zip first.")
    return read_csv(file.open, file.name, ALIASES, multiline=True)


def _ratings(file: SourceFile) -> Iterator[Chunk]:
    if file.name.endswith(".dat"):
        # The separator is two colons; a reader of single ones sees empty columns between.
        header = ["user_id", "_1", "movie_id", "_2", "rating", "_3", "timestamp"]
        return read_csv(file.open, file.name, {}, separator=":", header=header)
    if file.name == "u.data":
        return read_csv(file.open, file.name, {}, separator="\t", header=RATING_COLUMNS)
    return _table(file)


def as_interactions(chunk: pl.DataFrame, movies: pl.DataFrame, base: int) -> pl.DataFrame:
    """Ratings as rows for the contract; `movie_id` and `stars` stay beside them for the quarantine."""
    missing = [name for name in RATING_COLUMNS if name not in chunk.columns]
    if missing:
        raise SchemaError(
            f"The ratings lack the columns {', '.join(missing)}; there are {', '.join(chunk.columns)}.",
            fix="Give MovieLens ratings: userId, movieId, rating, timestamp.",
        )
    movie_id = pl.col("movie_id").cast(pl.Int64, strict=False)
    return (
        chunk.select(RATING_COLUMNS)
        .with_columns(movie_id=pl.when(movie_id > 0).then(movie_id), raw_movie_id=pl.col("movie_id"))
        .join(movies, on="movie_id", how="left", maintain_order="left")
        .select(
            "user_id",
            pl.coalesce("item_id", base + pl.col("movie_id")).alias("item_id"),
            pl.lit("rate").alias("event"),
            (pl.col("rating").cast(pl.Float64, strict=False) * 2).alias("rating"),
            pl.col("timestamp").alias("occurred_at"),
            pl.concat_str(
                [pl.col(name).cast(pl.String) for name in ("user_id", "movie_id", "timestamp")], separator=":"
            ).alias("event_key"),
            pl.col("raw_movie_id").alias("movie_id"),
            pl.col("rating").alias("stars"),
        )
    )


def _movies(links: SourceFile | None, movies: SourceFile | None, base: int) -> pl.DataFrame:
    """One row per MovieLens film that some file tells of: movie_id, item_id, title, genres."""
    told = [read_movies(file) for file in (movies, links) if file is not None]
    linked = (
        pl.DataFrame(schema={"movie_id": pl.Int64, "tmdb_id": pl.Int64})
        if links is None
        else read_links(links)
    )
    if not told:
        return linked.select("movie_id", pl.col("tmdb_id").alias("item_id")).with_columns(
            title=pl.lit(None, pl.String), genres=pl.lit(None, pl.String)
        )
    return (
        pl.concat(told)
        .group_by("movie_id", maintain_order=True)
        .agg(pl.col("title", "genres").drop_nulls().first())
        .join(linked, on="movie_id", how="left")
        .select(
            "movie_id",
            pl.coalesce("tmdb_id", base + pl.col("movie_id")).alias("item_id"),
            "title",
            "genres",
        )
        .sort("movie_id")
    )


def read_links(file: SourceFile) -> pl.DataFrame:
    """MovieLens film → TMDB id: `movie_id, tmdb_id`, where a film has one."""
    frame = pl.concat([chunk.frame for chunk in _table(file)])
    missing = [name for name in ("movie_id", "tmdb_id") if name not in frame.columns]
    if missing:
        raise SchemaError(f"{file.name} lacks the columns {', '.join(missing)}.", fix="Give MovieLens links.")
    ids = [pl.col(name).cast(pl.Int64, strict=False) for name in ("movie_id", "tmdb_id")]
    return (
        frame.select(ids)
        .filter(pl.col("movie_id") > 0, pl.col("tmdb_id") > 0)
        .unique("movie_id", keep="first")
    )


def read_movies(file: SourceFile) -> pl.DataFrame:
    """Titles and genres (joined by `|`), as far as the file has them."""
    if file.name.endswith(".dat") or file.name == "u.item":
        return _old_movie_list(file)
    frame = pl.concat([chunk.frame for chunk in _table(file)])
    return frame.select(
        pl.col(name).cast(kind, strict=False) if name in frame.columns else pl.lit(None, kind).alias(name)
        for name, kind in MOVIE_SCHEMA.items()
    ).filter(pl.col("movie_id") > 0)


def _old_movie_list(file: SourceFile) -> pl.DataFrame:
    """`movies.dat` (id::title::genres) and `u.item` (id|title|…|19 flags), both in Latin-1 or UTF-8."""
    try:
        with file.open() as opened:
            content = opened.read(MAX_MOVIE_LIST_BYTES + 1)
    except DAMAGED as error:
        raise _not_readable(file.name, error) from None
    if len(content) > MAX_MOVIE_LIST_BYTES:
        raise SchemaError(
            f"{file.name} has more than {MAX_MOVIE_LIST_BYTES >> 20} MiB.", fix="Give a list of films."
        )
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    rows = []
    for line in text.splitlines():
        parts = line.split("|" if file.name == "u.item" else "::")
        if len(parts) < 3 or not parts[0].isdecimal():
            continue
        if file.name == "u.item":
            flags = zip(GENRES_100K, parts[-len(GENRES_100K) :], strict=True)
            genres = "|".join(genre for genre, flag in flags if flag == "1" and genre != "unknown")
        else:
            genres = parts[-1]
        title = parts[1] if file.name == "u.item" else "::".join(parts[1:-1])
        rows.append((int(parts[0]), title, genres))
    return pl.DataFrame(rows, schema=MOVIE_SCHEMA, orient="row")


def _items(rated: pl.DataFrame, movies: pl.DataFrame, facts: SourceFile | None) -> pl.DataFrame:
    """The rated films: TMDB facts where there are any, else title and genres of MovieLens."""
    genres = pl.col("genres").replace(NO_GENRES, None).str.split("|")
    told = (
        movies.group_by("item_id")
        .agg(pl.all().sort_by("movie_id").first())
        .with_columns(genres.list.eval(pl.element().replace(TMDB_SPELLING)))
    )
    number = pl.when(pl.col("item_id") > UNLINKED).then(pl.col("item_id") % UNLINKED)
    named = (
        rated.join(told, on="item_id", how="left")
        .with_columns(
            pl.coalesce("title", pl.format("MovieLens film {}", number.fill_null(pl.col("movie_id"))))
        )
        .select("item_id", "title", "genres")
        .sort("item_id")
    )
    if facts is None:
        return named
    return (
        named.join(read_facts(facts, named["item_id"]), on="item_id", how="left", suffix="_of_facts")
        .with_columns(
            title=pl.coalesce("title_of_facts", "title"), genres=pl.coalesce("genres_of_facts", "genres")
        )
        .drop("title_of_facts", "genres_of_facts")
    )


def read_facts(file: SourceFile, wanted: pl.Series) -> pl.DataFrame:
    """Facts of the wanted items, named as in the items contract."""
    item_id = pl.col("tmdb_id").cast(pl.Int64, strict=False)
    chunks = []
    for chunk in _table(file):
        if "tmdb_id" not in chunk.frame.columns:
            raise SchemaError(f"{file.name} lacks the column tmdb_id.", fix="Give TMDB facts by TMDB id.")
        chunks.append(
            chunk.frame.with_columns(item_id=item_id).filter(pl.col("item_id").is_in(wanted.implode()))
        )
    frame = pl.concat(chunks).unique("item_id", keep="first", maintain_order=True)
    columns = {name: pl.col(name) for name in frame.columns}
    empty = pl.lit(None, pl.String)

    def names(*sources: str) -> pl.Expr:
        joined = [columns[source].cast(pl.String) for source in sources if source in columns]
        text = pl.concat_str(joined, separator="|", ignore_nulls=True) if joined else empty
        return pl.when(text != "").then(text.str.split("|").list.unique(maintain_order=True))

    years = [columns[name] for name in ("popularity_as_of", "votes_as_of") if name in columns]
    return frame.select(
        "item_id",
        columns.get("title", empty).alias("title"),
        *(columns[name] for name in SAME_AS_ITEMS if name in columns),
        columns.get("runtime", empty).alias("runtime_minutes"),
        names("genres").alias("genres"),
        names("keywords").alias("keywords"),
        names("director", "cast_top").alias("people"),
        # Snapshots tell only their year, about.
        (pl.datetime(pl.max_horizontal(years), 1, 1, time_zone="UTC") if years else empty).alias(
            "observed_at"
        ),
        pl.lit("en").alias("language"),
    )
