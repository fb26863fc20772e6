"""MovieLens in every form it comes in."""

import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from marquee.errors import SchemaError
from marquee.ingest import ingest_movielens
from marquee.ingest.movielens import UNLINKED, UNLINKED_100K

# (user, movie, stars, time); movie 4 has no TMDB id, movies 2 and 3 are one TMDB film
RATINGS = [(1, 1, 4.0, 964982703), (1, 2, 0.5, 964982224), (2, 3, 5.0, 964981247), (2, 4, 3.0, 964982931)]
MOVIES = {
    1: ("Toy Story (1995)", "Adventure|Children|Sci-Fi"),
    2: ("Star: The Film (1999)", "Drama"),
    3: ("Star, again (1999)", "Comedy"),
    4: ("Café (2001)", "(no genres listed)"),
}
LINKS = {1: 862, 2: 700, 3: 700, 4: None}


def as_csv(folder: Path) -> None:
    lines = [f"{u},{m},{s},{t}" for u, m, s, t in RATINGS]
    folder.joinpath("ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *lines]) + "\n")
    lines = [f'{m},"{title}",{genres}' for m, (title, genres) in MOVIES.items()]
    folder.joinpath("movies.csv").write_text("\n".join(["movieId,title,genres", *lines]) + "\n")
    lines = [f"{m},0{m},{'' if tmdb is None else tmdb}" for m, tmdb in LINKS.items()]
    folder.joinpath("links.csv").write_text("\n".join(["movieId,imdbId,tmdbId", *lines]) + "\n")


def as_zip(folder: Path) -> Path:
    as_csv(folder)
    path = folder / "ml-tiny.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("ratings.csv", "movies.csv", "links.csv"):
            archive.write(folder / name, f"ml-tiny/{name}")
            folder.joinpath(name).unlink()
    return path


def as_dat(folder: Path) -> None:
    lines = [f"{u}::{m}::{s:g}::{t}" for u, m, s, t in RATINGS]
    folder.joinpath("ratings.dat").write_text("\n".join(lines) + "\n")
    lines = [f"{m}::{title}::{genres}" for m, (title, genres) in MOVIES.items()]
    folder.joinpath("movies.dat").write_text("\n".join(lines) + "\n", encoding="latin-1")


def as_100k(folder: Path) -> None:
    lines = [f"{u}\t{m}\t{max(1, round(s))}\t{t}" for u, m, s, t in RATINGS]
    folder.joinpath("u.data").write_text("\n".join(lines) + "\n")
    flags = "|".join("1" if i in (1, 15) else "0" for i in range(19))
    lines = [f"{m}|{title}|01-Jan-1995||http://x|{flags}" for m, (title, _) in MOVIES.items()]
    folder.joinpath("u.item").write_text("\n".join(lines) + "\n", encoding="latin-1")


def as_parquet(folder: Path) -> None:
    pl.DataFrame(RATINGS, schema=["user_id", "movie_id", "rating", "timestamp"], orient="row").write_parquet(
        folder / "r.parquet"
    )
    pl.DataFrame(
        [(m, *MOVIES[m], LINKS[m]) for m in MOVIES],
        schema=["movie_id", "title", "genres", "tmdb_id"],
        orient="row",
    ).write_parquet(folder / "l.parquet")
    pl.DataFrame(
        {
            "tmdb_id": [862, 999],
            "title": ["Toy Story", "Unrated"],
            "genres": ["Animation|Family", "Drama"],
            "runtime": [81.0, 90.0],
            "keywords": ["toy|boy", None],
            "director": ["A. Director", None],
            "cast_top": ["A. Director|B. Actor", None],
            "overview": ["Invented words.", None],
            "poster_path": ["/p.jpg", None],
            "popularity": [20.5, 1.0],
            "popularity_as_of": [2024, 2016],
            "vote_average": [7.9, 5.0],
            "vote_count": [100, 2],
            "votes_as_of": [2022, 2016],
        }
    ).write_parquet(folder / "f.parquet")


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_csv_is_loaded_with_tmdb_ids(database, objects, tmp_path, tables, form):
    if form == "zip":
        source = as_zip(tmp_path)
    else:
        source = tmp_path
        as_csv(tmp_path)
    report = ingest_movielens(database, objects, source)
    content = tables(database)
    assert (report.inserted, report.quarantined, len(report.raw_keys)) == (7, 0, 1 if form == "zip" else 3)
    assert {
        (row["user_id"], row["item_id"], row["rating"], row["event"]) for row in content["interactions"]
    } == {
        (1, 862, 8.0, "rate"),
        (1, 700, 1.0, "rate"),
        (2, 700, 10.0, "rate"),
        (2, UNLINKED + 4, 6.0, "rate"),
    }
    assert datetime(2000, 7, 30, 18, 45, 3, tzinfo=UTC) in {
        row["occurred_at"] for row in content["interactions"]
    }
    assert {(row["item_id"], row["title"]) for row in content["items"]} == {
        (862, "Toy Story (1995)"),
        (700, "Star: The Film (1999)"),
        (UNLINKED + 4, "Café (2001)"),
    }
    genres = {row["item_id"]: row["genres"] for row in content["items"]}
    assert genres[862] == ["Adventure", "Family", "Science Fiction"]
    assert genres[UNLINKED + 4] is None
    assert {row["kind"] for row in content["users"]} == {"imported"}


def test_dat_without_links_keeps_every_rating(database, objects, tmp_path, tables):
    as_dat(tmp_path)
    report = ingest_movielens(database, objects, tmp_path)
    content = tables(database)
    assert report.inserted == 8
    assert {row["item_id"] for row in content["interactions"]} == {UNLINKED + m for m in MOVIES}
    assert {row["title"] for row in content["items"]} == {title for title, _ in MOVIES.values()}


def test_100k_has_an_id_space_of_its_own(database, objects, tmp_path, tables):
    as_100k(tmp_path)
    ingest_movielens(database, objects, tmp_path)
    content = tables(database)
    assert {row["item_id"] for row in content["items"]} == {UNLINKED_100K + m for m in MOVIES}
    assert content["items"][0]["genres"] == ["Action", "Science Fiction"]
    assert sorted(row["rating"] for row in content["interactions"]) == [2.0, 6.0, 8.0, 10.0]


def test_parquet_takes_facts_where_there_are_any(database, objects, tmp_path, tables):
    as_parquet(tmp_path)
    names = {"ratings": "r.parquet", "links": "l.parquet", "facts": "f.parquet"}
    ingest_movielens(database, objects, tmp_path, **names)
    content = tables(database)
    items = {row["item_id"]: row for row in content["items"]}
    assert set(items) == {862, 700, UNLINKED + 4}
    toy = items[862]
    assert (toy["title"], toy["poster_path"], toy["runtime_minutes"]) == ("Toy Story", "/p.jpg", 81)
    assert toy["people"] == ["A. Director", "B. Actor"]
    assert items[700]["title"] == "Star: The Film (1999)"
    assert [row["observed_at"].year for row in content["item_facts"]] == [2024]
    assert [row["overview"] for row in content["item_texts"] if row["language"] == "en"] == [
        "Invented words."
    ]


def test_second_load_adds_nothing(database, objects, tmp_path, tables):
    as_csv(tmp_path)
    ingest_movielens(database, objects, tmp_path)
    before = tables(database)
    report = ingest_movielens(database, objects, tmp_path)
    assert (report.inserted, report.updated, report.duplicates) == (0, 0, 7)
    assert tables(database) == before


def test_facts_of_another_source_stay(database, objects, tmp_path, tables):
    as_csv(tmp_path)
    with database.begin() as connection:
        connection.exec_driver_sql("INSERT INTO items (item_id, title, source) VALUES (862, 'Fresh', 'tmdb')")
    ingest_movielens(database, objects, tmp_path)
    titles = {row["item_id"]: (row["title"], row["source"]) for row in tables(database)["items"]}
    assert titles[862] == ("Fresh", "tmdb")


def test_bad_ratings_go_to_quarantine(database, objects, tmp_path, tables):
    as_csv(tmp_path)
    with tmp_path.joinpath("ratings.csv").open("a") as file:
        file.write("x,1,4.0,964982703\n3,one,4.0,964982703\n3,1,6.0,964982703\n3,1,good,964982703\n3,1\n")
    report = ingest_movielens(database, objects, tmp_path)
    assert (report.quarantined, report.read) == (5, 12)
    reasons = " | ".join(row["reason"] for row in tables(database)["quarantine"])
    for part in (
        "user_id x is not",
        "item_id is missing",
        "rating 12.0 is outside",
        "has no rating",
        "2 values",
    ):
        assert part in reasons


def test_folder_without_ratings_is_refused(database, objects, tmp_path):
    with pytest.raises(SchemaError, match="no MovieLens ratings"):
        ingest_movielens(database, objects, tmp_path)


def test_named_file_that_is_missing_is_refused(database, objects, tmp_path):
    as_csv(tmp_path)
    with pytest.raises(SchemaError, match=r"no file facts\.parquet"):
        ingest_movielens(database, objects, tmp_path, facts="facts.parquet")


@pytest.mark.realdata
def test_real_small_edition_is_loaded_whole(database, objects, realdata):
    report = ingest_movielens(
        database,
        objects,
        realdata,
        ratings="movielens-small.parquet",
        links="movielens-movies.parquet",
        facts="tmdb-movies.parquet",
    )
    assert report.quarantined == 0
    with database.begin() as connection:
        counted = connection.exec_driver_sql(
            "SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id), min(rating), max(rating) "
            "FROM interactions"
        ).one()
        shown = connection.exec_driver_sql("SELECT count(*), count(poster_path) FROM items").one()
    assert tuple(counted) == (100_836, 610, 9_723, 1.0, 10.0)
    assert shown[0] == 9_723
    assert shown[1] > 8_900
