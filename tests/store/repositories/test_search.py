from datetime import UTC, date, datetime, timedelta

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from marquee.config import Settings
from marquee.data.schema import ITEMS
from marquee.recommend.filters import Filters
from marquee.store.postgres import Database
from marquee.store.repositories import items, search

pytestmark = pytest.mark.integration

DAY = datetime(2026, 1, 1, tzinfo=UTC)
INCEPTION, AMELIE, MATRIX, RELOADED, PARASITE, SCHINDLER, SPIDER, MOOD, IT, FOLLOWS, ITALIAN, DARK, HIDDEN = (
    range(1, 14)
)
FILMS = {
    INCEPTION: ("Inception", "Inception", {"ko": "인셉션"}),
    AMELIE: ("Amélie", "Le Fabuleux Destin d'Amélie Poulain", {"ko": "아멜리에"}),
    MATRIX: ("The Matrix", "The Matrix", {"ko": "매트릭스"}),
    RELOADED: ("The Matrix Reloaded", "The Matrix Reloaded", {"ko": "매트릭스 2: 리로디드"}),
    PARASITE: ("기생충", "기생충", {"en": "Parasite"}),
    SCHINDLER: ("Schindler's List", "Schindler's List", {"ko": "쉰들러 리스트"}),
    SPIDER: ("Spider-Man: No Way Home", "Spider-Man: No Way Home", {"ko-KR": "스파이더맨: 노 웨이 홈"}),
    MOOD: ("In the Mood for Love", "花樣年華", {"ko": "화양연화"}),
    IT: ("It", "It", {}),
    FOLLOWS: ("It Follows", None, {}),
    ITALIAN: ("The Italian Job", None, {}),
    DARK: ("The Dark Knight", "The Dark Knight", {"ko": "다크 나이트"}),
    HIDDEN: ("Incendies", "Incendies", {}),
}


def fill(database: Database) -> None:
    rows = [
        {
            "item_id": item_id, "title": title, "original_title": original,
            "genres": ["Drama", "Science Fiction"],
            "release_date": date(2000, 1, 1) + timedelta(days=400 * item_id), "runtime_minutes": 90 + item_id,
            "original_language": "ko" if item_id == PARASITE else "en", "adult": item_id == HIDDEN,
            "overview": f"About {title}.", "poster_path": f"/{item_id}.jpg",
        }
        for item_id, (title, original, _) in FILMS.items()
    ]  # fmt: skip
    texts = [
        {"item_id": item_id, "language": language, "title": title}
        for item_id, (_, _, titles) in FILMS.items()
        for language, title in titles.items()
    ]
    facts = [
        {"item_id": item_id, "observed_at": DAY - timedelta(days=age), "popularity": item_id * 10.0 - age}
        for item_id in FILMS
        for age in (0, 5)
        if item_id != IT
    ]
    with database.begin() as connection:
        items.upsert_items(connection, pa.Table.from_pylist(rows, schema=ITEMS), source="test")
        items.upsert_texts(connection, pa.Table.from_pylist(texts, schema=items.TEXTS))
        items.append_facts(connection, pa.Table.from_pylist(facts, schema=items.FACTS))


@pytest.fixture(scope="module")
def films(postgres, tmp_path_factory):
    """A catalogue that no test changes."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_search TEMPLATE template_marquee")
    home = tmp_path_factory.mktemp("home")
    with Database.open(Settings(home=home, database={"url": postgres.url_of("test_search")})) as database:
        fill(database)
        yield database


def ids(database: Database, title: str | None, filters: Filters | None = None, **more) -> list[int]:
    with database.begin() as connection:
        found = search.find(connection, title, filters or Filters(), **more)
    return [item.item_id for _, item in found]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("Inception", INCEPTION),
        ("INCEP", INCEPTION),
        ("incepton", INCEPTION),
        ("inseption", INCEPTION),
        ("amelie", AMELIE),
        ("amélie", AMELIE),
        ("fabuleux poulain", AMELIE),
        ("matirx", MATRIX),
        ("schindlers list", SCHINDLER),
        ("Schindler’s", SCHINDLER),
        ("spiderman", SPIDER),
        ("spider man no way", SPIDER),
        ("home way", SPIDER),
        ("dark kni", DARK),
        ("the drak knight", DARK),
        ("花樣年", MOOD),
        ("parasite", PARASITE),
        ("인셉션", INCEPTION),
        ("인샙션", INCEPTION),
        ("매트릭스리로디드", RELOADED),
        ("노웨이홈", SPIDER),
        ("스파이더맨", SPIDER),
    ],
)
def test_title_is_found_first_as_people_type_it(films: Database, typed: str, expected: int):
    assert ids(films, typed)[0] == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["ㅇ", "이", "인", "인ㅅ", "인세", "인셉", "인셊", "인셉셔", "인셉션"], INCEPTION),
        (["ㄱ", "기", "깃", "기새", "기생", "기생ㅊ", "기생추", "기생충"], PARASITE),
        (["호", "화", "화ㅇ", "화야", "화양", "화양ㅇ", "화양여", "화양연", "화양연호", "화양연화"], MOOD),
        (["a", "am", "ame", "amel", "ameli", "amelie"], AMELIE),
        (["t", "th", "the", "the ", "the m", "the ma"], MATRIX),
    ],
)
def test_title_is_found_at_every_key(films: Database, keys: list[str], expected: int):
    for typed in keys:
        assert expected in ids(films, typed), typed


def test_whole_titles_come_before_beginnings_before_words_before_the_similar(films: Database):
    found = ids(films, "it")
    assert found == [IT, FOLLOWS, ITALIAN]
    assert ids(films, "matrix") == [RELOADED, MATRIX]  # alike but for how popular they are
    assert ids(films, "the matrix")[:2] == [MATRIX, RELOADED]
    assert ids(films, "incend", Filters(include_adult=True))[0] == HIDDEN


@pytest.mark.parametrize("title", ["", "  ", "!?", "xyzzyx", "%", "_", "\\", "' OR 1=1"])
def test_nothing_is_found_for_what_is_in_no_title(films: Database, title: str):
    assert ids(films, title) == []


def test_filters_hold(films: Database):
    assert set(ids(films, None)) == set(FILMS) - {HIDDEN}
    assert set(ids(films, None, Filters(include_adult=True))) == set(FILMS)
    assert ids(films, None, Filters(languages=("KO",))) == [PARASITE]
    assert ids(films, "i", Filters(genres=("western",))) == []
    assert len(ids(films, None, Filters(genres=("western", "science fiction")))) == len(FILMS) - 1
    assert ids(films, None, Filters(year_from=2002, year_to=2002)) == [AMELIE]
    assert ids(films, None, Filters(max_runtime_minutes=91)) == [INCEPTION]
    assert ids(films, "matrix", Filters(exclude=(MATRIX,))) == [RELOADED]


def test_orders(films: Database):
    shown = sorted(set(FILMS) - {HIDDEN})
    assert ids(films, None, sort="newest") == shown[::-1]
    assert ids(films, None, sort="popularity") == [i for i in shown[::-1] if i != IT] + [IT]
    assert ids(films, None) == ids(films, None, sort="popularity")
    assert ids(films, None, sort="title")[:3] == [AMELIE, MOOD, INCEPTION]
    assert ids(films, "matrix", sort="newest") == [RELOADED, MATRIX]
    assert ids(films, "matirx", sort="newest") == [RELOADED, MATRIX]


def test_korean_titles_are_in_the_order_of_the_dictionary(films: Database):
    found = ids(films, None, sort="title", language="ko")
    korean = [i for i in found if i in (PARASITE, DARK, MATRIX, INCEPTION, AMELIE, MOOD)]
    assert korean == [PARASITE, DARK, MATRIX, AMELIE, INCEPTION, MOOD]


def test_titles_are_in_the_language_asked_for(films: Database):
    def titled(language: str | None) -> str:
        with films.begin() as connection:
            return search.find(connection, "spider man", Filters(), language=language)[0][1].title

    assert titled("ko-KR") == "스파이더맨: 노 웨이 홈"
    assert titled("ko") == titled("fr") == titled(None) == "Spider-Man: No Way Home"
    with films.begin() as connection:
        parasite = search.get(connection, PARASITE, language="en-US")
    assert parasite is not None
    assert (parasite.title, parasite.overview) == ("Parasite", "About 기생충.")
    assert (parasite.languages, parasite.popularity, parasite.observed_at) == (["en"], 50.0, DAY)


@given(
    title=st.sampled_from([None, "i", "the", "matirx", "the drak"]),
    sort=st.sampled_from(["relevance", "popularity", "newest", "title"]),
    language=st.sampled_from([None, "ko"]),
    limit=st.integers(1, 14),
)
@settings(max_examples=40)
def test_pages_of_any_length_hold_every_item_once_and_in_order(films, title, sort, language, limit):
    asked = {"sort": sort, "language": language}
    with films.begin() as connection:
        whole = [item.item_id for _, item in search.find(connection, title, Filters(), limit=100, **asked)]
        paged, after = [], None
        while page := search.find(connection, title, Filters(), after=after, limit=limit, **asked):
            paged += [item.item_id for _, item in page]
            after = page[-1][0]
            assert len(page) <= limit
    assert paged == whole
    assert len(set(paged)) == len(paged)


def test_page_is_not_moved_by_items_that_come_in_between(database: Database):
    fill(database)
    with database.begin() as connection:
        first = search.find(connection, None, Filters(), sort="newest", limit=5)
        new = {"item_id": 99, "title": "New", "release_date": date(2030, 1, 1)}
        items.upsert_items(connection, pa.Table.from_pylist([new], schema=ITEMS), source="test")
        second = search.find(connection, None, Filters(), sort="newest", after=first[-1][0], limit=5)
    assert [item.item_id for _, item in first + second] == sorted(set(FILMS) - {HIDDEN}, reverse=True)[:10]


def test_removed_and_blocked_items_are_in_no_list(database: Database):
    fill(database)
    with database.begin() as connection:
        items.remove(connection, [MATRIX], removed_at=DAY)
        connection.execute(text("UPDATE items SET block = true WHERE item_id = :id"), {"id": RELOADED})
        assert search.find(connection, "matrix", Filters()) == []
        assert search.get(connection, MATRIX) is None
        blocked = search.get(connection, RELOADED)
    assert blocked is not None
    assert blocked.block


def test_popularity_is_the_newest_and_goes_with_its_facts(database: Database):
    fill(database)
    with database.begin() as connection:
        late = [{"item_id": INCEPTION, "observed_at": DAY - timedelta(days=9), "popularity": 1e6}]
        items.append_facts(connection, pa.Table.from_pylist(late, schema=items.FACTS))
        assert search.get(connection, INCEPTION).popularity == 10.0
        items.drop_facts(connection, "test", DAY + timedelta(days=1))
        assert search.get(connection, INCEPTION).popularity is None
