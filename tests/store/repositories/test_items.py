from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from sqlalchemy import text

from marquee.data.schema import ITEMS
from marquee.errors import SchemaError
from marquee.store.postgres import Database
from marquee.store.repositories import items
from marquee.store.repositories.items import FACTS, TEXTS, ItemCard
from marquee.store.staging import UpsertCounts

pytestmark = pytest.mark.integration

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def films(**changes) -> pa.Table:
    first = {
        "item_id": 603, "title": "The Matrix", "release_date": date(1999, 3, 31), "genres": ["Action", "SF"],
        "keywords": [], "poster_path": "/m.jpg", "overview": "A hacker wakes up.", "adult": False,
    }  # fmt: skip
    return pa.Table.from_pylist(
        [{**first, **changes}, {"item_id": 862, "title": "토이 스토리"}], schema=ITEMS
    )


def updated_at(database: Database) -> dict[int, datetime]:
    with database.begin() as connection:
        return {
            row.item_id: row.updated_at
            for row in connection.execute(text("SELECT item_id, updated_at FROM items"))
        }


def test_same_facts_again_change_nothing_but_the_check(database: Database):
    with database.begin() as connection:
        assert items.upsert_items(connection, films(), source="tmdb") == UpsertCounts(2, 0, 0)
        connection.execute(text("UPDATE items SET checked_at = now() - interval '200 days'"))
    before = updated_at(database)
    with database.begin() as connection:
        moment = datetime.now(UTC) - timedelta(days=100)
        assert items.unchecked_since(connection, "tmdb", moment) == [603, 862]
        assert items.upsert_items(connection, films(), source="tmdb") == UpsertCounts(0, 0, 2)
        assert items.unchecked_since(connection, "tmdb", moment) == []
    assert updated_at(database) == before


def test_changed_fact_updates_its_item_only(database: Database):
    with database.begin() as connection:
        items.upsert_items(connection, films(), source="tmdb")
    before = updated_at(database)
    with database.begin() as connection:
        assert items.upsert_items(connection, films(genres=["Action"]), source="tmdb") == UpsertCounts(
            0, 1, 1
        )
    after = updated_at(database)
    assert after[603] > before[603]
    assert after[862] == before[862]


def test_last_row_of_a_repeated_item_counts(database: Database):
    with database.begin() as connection:
        twice = pa.concat_tables([films(), films(title="Matrix")])
        assert items.upsert_items(connection, twice, source="tmdb") == UpsertCounts(2, 0, 0)
        assert items.cards(connection, [603])[603].title == "Matrix"


def test_catalogue_comes_back_as_it_went_in(database: Database):
    with database.begin() as connection:
        items.upsert_items(connection, films(), source="tmdb")
    assert items.load_catalog(database).table.equals(films())


def test_texts_of_a_language_win_where_there_are_any(database: Database):
    korean = pa.Table.from_pylist(
        [{"item_id": 603, "language": "ko-KR", "title": "매트릭스", "overview": None}], schema=TEXTS
    )
    with database.begin() as connection:
        items.upsert_items(connection, films(), source="tmdb")
        assert items.upsert_texts(connection, korean) == UpsertCounts(1, 0, 0)
        assert items.upsert_texts(connection, korean) == UpsertCounts(0, 0, 1)
        cards = items.cards(connection, [862, 603, 1], language="ko-KR")
    assert cards == {
        603: ItemCard(603, "매트릭스", "/m.jpg", "A hacker wakes up."),
        862: ItemCard(862, "토이 스토리", None, None),
    }
    titles = items.load_catalog(database, language="ko-KR").table["title"].to_pylist()
    assert titles == ["매트릭스", "토이 스토리"]


def test_removed_item_is_gone_until_its_source_names_it_again(database: Database):
    with database.begin() as connection:
        items.upsert_items(connection, films(), source="tmdb")
        assert items.remove(connection, [603, 5], removed_at=DAY) == 1
        assert items.not_shown(connection).tolist() == [603]
        assert items.count(connection) == {"tmdb": 1}
        assert 603 not in items.cards(connection, [603])
        items.upsert_items(connection, films(), source="tmdb")
        assert items.not_shown(connection).tolist() == []


def test_what_an_editor_has_written_no_other_source_changes_or_removes(database: Database):
    with database.begin() as connection:
        items.upsert_items(connection, films(), source="tmdb")
        edited = films(title="Matrix").slice(0, 1)
        assert items.upsert_items(connection, edited, source=items.EDITOR) == UpsertCounts(0, 1, 0)
        assert items.upsert_items(connection, films(), source="tmdb") == UpsertCounts(0, 0, 2)
        assert items.cards(connection, [603])[603].title == "Matrix"
        assert items.remove(connection, [603, 862], removed_at=DAY) == 1
        assert items.not_shown(connection).tolist() == [862]


def test_facts_are_those_known_at_the_moment(database: Database):
    def fact(day: int, popularity: float | None) -> dict:
        return {"item_id": 603, "observed_at": DAY + timedelta(days=day), "popularity": popularity}

    table = pa.Table.from_pylist([fact(0, 1.5), fact(2, 3.5)], schema=FACTS)
    with database.begin() as connection:
        items.upsert_items(connection, films(), source="tmdb")
        assert items.append_facts(connection, table) == 2
        assert items.append_facts(connection, table) == 0
    for day, expected in ((-1, []), (0, [1.5]), (1, [1.5]), (2, [3.5])):
        found = items.facts_as_of(database, DAY + timedelta(days=day))
        assert found["popularity"].to_pylist() == expected
    with database.begin() as connection:
        assert items.drop_facts(connection, "sample", DAY + timedelta(days=1)) == 0
        assert items.drop_facts(connection, "tmdb", DAY + timedelta(days=1)) == 1


def test_item_without_title_is_a_schema_error(database: Database):
    with database.begin() as connection:
        with pytest.raises(SchemaError, match="title"):
            items.upsert_items(connection, films().drop_columns("title"), source="x")
        with pytest.raises(SchemaError, match="title"):
            items.upsert_items(connection, films(title=None), source="x")


def test_editorial_choices_are_those_of_items_that_are_shown(database: Database):
    with database.begin() as connection:
        items.upsert_items(connection, films(), source="tmdb")
        before = items.version(connection)
        assert items.version(connection) == before
    with database.begin() as connection:
        connection.execute(text("UPDATE items SET pin = true, boost = 2.5 WHERE item_id = 862"))
    with database.begin() as connection:
        assert items.version(connection) != before
        chosen = items.editorial(connection)
        assert (chosen.pinned.tolist(), chosen.boosted.tolist(), chosen.boosts.tolist()) == (
            [862],
            [862],
            [1.5],
        )
        connection.execute(text("UPDATE items SET block = true WHERE item_id = 862"))
        assert items.editorial(connection).pinned.tolist() == []
        assert items.not_shown(connection).tolist() == [862]
