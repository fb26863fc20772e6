"""The catalogue that ships inside the package."""

import pytest

from marquee.ingest import ingest_sample


def test_most_popular_films_arrive_with_both_titles(database, objects, tables):
    report = ingest_sample(database, objects, limit=50)
    content = tables(database)
    assert (report.source, report.read, report.inserted, report.quarantined) == ("sample", 50, 50, 0)
    assert len(content["item_facts"]) == 50
    assert len({row["item_id"] for row in content["item_texts"] if row["language"] == "en"}) == 50
    korean = [row for row in content["item_texts"] if row["language"] == "ko"]
    assert korean
    assert all(row["overview"] is None for row in korean)
    assert all(row["overview"] and row["people"] for row in content["items"])


def test_second_run_changes_nothing(database, objects, tables):
    ingest_sample(database, objects, limit=20)
    before = tables(database)
    report = ingest_sample(database, objects, limit=20)
    assert (report.inserted, report.updated, report.duplicates) == (0, 0, 20)
    assert tables(database) == before


def test_whole_catalogue_keeps_the_contract(database, objects):
    report = ingest_sample(database, objects, limit=10_000)
    assert report.quarantined == 0
    assert report.inserted >= 500


def test_facts_of_another_source_stay(database, objects, tables):
    with database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO items (item_id, title, source) VALUES (157336, 'Mine', 'items')"
        )
    ingest_sample(database, objects, limit=20)
    assert next(row for row in tables(database)["items"] if row["item_id"] == 157336)["title"] == "Mine"


def test_limit_must_be_positive(database, objects):
    with pytest.raises(ValueError, match="limit must be positive"):
        ingest_sample(database, objects, limit=0)


def test_films_of_a_series_share_a_collection(database, objects, tables):
    ingest_sample(database, objects, limit=10_000)
    collection = {row["title"]: row["collection_id"] for row in tables(database)["items"]}
    assert collection["Toy Story"] == collection["Toy Story 2"] != collection["The Matrix"]
    assert collection["Inception"] is None
