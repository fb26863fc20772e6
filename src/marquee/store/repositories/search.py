"""
Search in the catalogue: by title, forgiving; by facts; page after page.

A title is searched as `search_title` of the database writes it: without case, accents and punctuation, and
Hangul by the letters that type it. So `amelie` finds Amélie, and `기생`, or `깃` on the way to it, is the
beginning of a word. Titles are looked at in every language that the catalogue has.

A page is found by the key of the last item of the page before (keyset): items that come or go in between
neither repeat nor hide others.
"""

from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from typing import Any, Final, Literal

from sqlalchemy import Connection, text

from marquee.recommend.filters import Filters

__all__ = ["TEXT_OF_LANGUAGE", "ItemDetails", "ItemSummary", "Key", "Sort", "find", "get"]

Sort = Literal["relevance", "popularity", "newest", "title"]
Key = tuple[float | str, ...]
"""Where an item stands in an order; ascending, the item id last."""

SIMILAR: Final = 0.4
"""Least similarity of what is searched to some words of a title; two letters that changed places in a word of
six leave as much."""
MORE_SIMILAR: Final = 0.5
"""The same, where a short word such as `the` alone would do."""
SHORT: Final = 3
LETTERS_FOR_TYPOS: Final = 4
"""Of fewer letters so many titles are similar that it says nothing."""
WORDS: Final = 8
"""More words than this are not looked at."""

KEYS: Final[dict[Sort, tuple[str, ...]]] = {
    "relevance": ("-i.score", "-coalesce(i.popularity, 0)::float8", "i.item_id"),
    "popularity": ("-coalesce(i.popularity, 0)::float8", "i.item_id"),
    # Days since, so that the newest are the least; those without a date come last.
    "newest": ("coalesce(date '0001-01-01' - i.release_date, 1)", "-i.item_id"),
    "title": ('fold_title(i.title) COLLATE "C"', "i.item_id"),
}
CASTS: Final = {float: "float8", int: "bigint", str: "text"}
OF_CANDIDATES: Final = "i.item_id, i.title, i.release_date, i.popularity"

NEWEST_FACTS: Final = """
LEFT JOIN LATERAL (
    SELECT vote_average, vote_count, observed_at FROM item_facts
    WHERE item_facts.item_id = i.item_id ORDER BY observed_at DESC LIMIT 1
) AS f ON true
"""
TEXT_OF_LANGUAGE: Final = """
LEFT JOIN LATERAL (
    SELECT title, overview, tagline, poster_path FROM item_texts
    WHERE item_texts.item_id = i.item_id
    AND language IN (CAST(:language AS text), split_part(:language, '-', 1))
    ORDER BY length(language) DESC LIMIT 1
) AS t ON true
"""
"""SQL that joins to items `i` their text `t` in `:language`: of `ko-KR`, else of `ko`, else nothing."""
SUMMARY: Final = """
i.item_id, coalesce(t.title, i.title) AS title, i.original_title, i.release_date, i.runtime_minutes,
coalesce(i.genres, '{}') AS genres, i.original_language, coalesce(t.overview, i.overview) AS overview,
coalesce(t.poster_path, i.poster_path) AS poster_path, i.backdrop_path, i.popularity, f.vote_average
"""
DETAILS: Final = """
t.tagline, coalesce(i.keywords, '{}') AS keywords, coalesce(i.people, '{}') AS people,
i.collection_id, coalesce(i.adult, false) AS adult, f.vote_count, f.observed_at,
ARRAY(SELECT language FROM item_texts WHERE item_texts.item_id = i.item_id ORDER BY 1) AS languages,
i.pin, i.block, i.boost, i.source, i.updated_at
"""


@dataclass(frozen=True, kw_only=True)
class ItemSummary:
    """What a list shows of an item."""

    item_id: int
    title: str
    original_title: str | None
    release_date: date | None
    runtime_minutes: int | None
    genres: list[str]
    original_language: str | None
    overview: str | None
    poster_path: str | None
    backdrop_path: str | None
    popularity: float | None
    vote_average: float | None


@dataclass(frozen=True, kw_only=True)
class ItemDetails(ItemSummary):
    """
    All that is known of an item.

    Attributes:
        languages: of its texts.
        observed_at: when popularity and votes were so.
    """

    tagline: str | None
    keywords: list[str]
    people: list[str]
    collection_id: int | None
    adult: bool
    vote_count: int | None
    observed_at: datetime | None
    languages: list[str]
    pin: bool
    block: bool
    boost: float
    source: str
    updated_at: datetime


def find(
    connection: Connection,
    title: str | None,
    filters: Filters,
    *,
    sort: Sort = "relevance",
    language: str | None = None,
    after: Key | None = None,
    limit: int = 20,
) -> list[tuple[Key, ItemSummary]]:
    """
    A page of the items that satisfy all that is asked; removed and blocked ones are left out.

    Args:
        title: as typed: the whole of one, the beginnings of words in any order, or nearly so. None: all.
        sort: by relevance, whole titles come before beginnings of titles, those before words within, and
            those before titles that are similar; of equal ones the more popular. Without a title to search
            it is popularity.
        language: of titles and overviews, where there are such; a title is found in any.
        after: key of the last item of the page before.

    Returns:
        Items with their keys, in order.
    """
    words = [] if title is None else _words(connection, title)
    if title is not None and not words:
        return []
    if title is None and sort == "relevance":
        sort = "popularity"
    asked = _Asked(tuple(words), filters, sort, language)
    found = asked.page(connection, after, limit)
    if len(found) == limit or sum(map(len, words)) < LETTERS_FOR_TYPOS:
        return found
    # Similar titles are many, and come after the others in any case: looked for where those end.
    if sort == "relevance" or not (found or (after and asked.page(connection, None, 1))):
        found = replace(asked, forgiving=True).page(connection, after, limit)
    return found


def get(connection: Connection, item_id: int, *, language: str | None = None) -> ItemDetails | None:
    """All that is known of an item, blocked ones included; None of an unknown or removed one."""
    row = connection.execute(
        text(
            f"SELECT {SUMMARY}, {DETAILS} FROM items AS i {TEXT_OF_LANGUAGE} {NEWEST_FACTS} "
            "WHERE i.item_id = :item_id AND i.removed_at IS NULL"
        ),
        {"item_id": item_id, "language": language},
    ).one_or_none()
    return None if row is None else ItemDetails(**row._mapping)


def _words(connection: Connection, title: str) -> list[str]:
    """What is searched, as titles are; how similar is similar is set for this transaction."""
    folded: str = connection.execute(text("SELECT search_title(:title)"), {"title": title}).scalar_one()
    words = folded.split()[:WORDS]
    trigrams = [len(word) + 1 for word in words]
    short = [n for word, n in zip(words, trigrams, strict=True) if len(word) <= SHORT]
    similar = MORE_SIMILAR if max(short, default=0) >= SIMILAR * sum(trigrams) else SIMILAR
    connection.execute(
        text(
            "SELECT set_config('pg_trgm.word_similarity_threshold', :similar, true), "
            "set_config('jit', 'off', true)"  # compiling takes longer than the search
        ),
        {"similar": str(similar)},
    )
    return words


@dataclass(frozen=True)
class _Asked:
    """A search, whatever its page; `forgiving` finds similar titles too."""

    words: tuple[str, ...]
    filters: Filters
    sort: Sort
    language: str | None
    forgiving: bool = False

    def page(self, connection: Connection, after: Key | None, limit: int) -> list[tuple[Key, ItemSummary]]:
        parameters: dict[str, Any] = {"language": self.language, "limit": limit}
        conditions = _conditions(self.filters, parameters)
        candidates = f"SELECT {OF_CANDIDATES} FROM items AS i WHERE {conditions}"
        if self.words:
            candidates = self._found(conditions, parameters)
        source, keys = f"({candidates}) AS i", KEYS[self.sort]
        if self.sort == "title" and self.language is not None:
            source += TEXT_OF_LANGUAGE
            keys = tuple(key.replace("i.title", "coalesce(t.title, i.title)") for key in keys)
        names = ", ".join(f"key{n}" for n in range(len(keys)))
        listed = ", ".join(f"{key} AS key{n}" for n, key in enumerate(keys))
        beyond = "true"
        if after is not None:
            marks = ", ".join(f"CAST(:after{n} AS {CASTS[type(part)]})" for n, part in enumerate(after))
            beyond = f"({names}) > ({marks})"
            parameters |= {f"after{n}": part for n, part in enumerate(after)}
        rows = connection.execute(
            text(
                f"WITH page AS (SELECT * FROM (SELECT i.item_id, {listed} FROM {source}) AS ordered "
                f"WHERE {beyond} ORDER BY {names} LIMIT :limit) "
                f"SELECT {names}, {SUMMARY} FROM page JOIN items AS i USING (item_id) "
                f"{TEXT_OF_LANGUAGE} {NEWEST_FACTS} ORDER BY {names}"
            ),
            parameters,
        ).all()
        n = len(keys)
        shown = [field.name for field in fields(ItemSummary)]
        return [(tuple(row[:n]), ItemSummary(**dict(zip(shown, row[n:], strict=True)))) for row in rows]

    def _found(self, conditions: str, parameters: dict[str, Any]) -> str:
        """SQL of the items whose title in some language matches, each with its best score."""
        searched = " ".join(self.words)
        parameters |= {
            "exact": f" {searched}",
            "whole_beginning": f" {searched} %",
            "beginning": f" {searched}%",
        }
        for n, word in enumerate(self.words):
            parameters |= {f"word{n}": f"% {word}%", f"whole{n}": f"% {word} %"}
        if self.forgiving:
            parameters["searched"] = searched
        own, original, of_text = "i.search_title", "i.search_original_title", "w.search_title"
        return (
            f"SELECT {OF_CANDIDATES}, max(score)::float8 AS score FROM ("
            f"SELECT {OF_CANDIDATES}, greatest({self._score(own)}, {self._score(original)}) AS score "
            f"FROM items AS i WHERE ({self._matches(own)} OR {self._matches(original)}) AND {conditions} "
            f"UNION ALL SELECT {OF_CANDIDATES}, {self._score(of_text)} AS score "
            f"FROM item_texts AS w JOIN items AS i USING (item_id) "
            f"WHERE ({self._matches(of_text)}) AND {conditions}) AS i GROUP BY {OF_CANDIDATES}"
        )

    def _matches(self, column: str) -> str:
        begun = self._each(column, "word")
        return f"({begun}) OR {column} %> :searched" if self.forgiving else f"({begun})"

    def _score(self, column: str) -> str:
        similar = "0"
        if self.forgiving:
            # Of what is typed in the title, and of the title in what is typed.
            similar = f"(word_similarity(:searched, {column}) + similarity(:searched, {column})) / 2"
        begun, whole = self._each(column, "word"), self._each(f"{column} || ' '", "whole")
        return (
            f"CASE WHEN {column} = :exact THEN 4 WHEN {column} LIKE :whole_beginning THEN 3.5 "
            f"WHEN {column} LIKE :beginning THEN 3 WHEN {whole} THEN 2.5 WHEN {begun} THEN 2 "
            f"ELSE {similar} END"
        )

    def _each(self, searched: str, pattern: str) -> str:
        return " AND ".join(f"{searched} LIKE :{pattern}{n}" for n in range(len(self.words)))


def _conditions(filters: Filters, parameters: dict[str, Any]) -> str:
    asked = ["i.removed_at IS NULL", "NOT i.block"]
    if not filters.include_adult:
        asked.append("i.adult IS NOT TRUE")
    if filters.genres:
        asked.append("lower(i.genres::text)::text[] && CAST(:genres AS text[])")
        parameters["genres"] = [genre.strip().lower() for genre in filters.genres]
    if filters.languages:
        asked.append("lower(i.original_language) = ANY(:languages)")
        parameters["languages"] = [code.strip().lower() for code in filters.languages]
    if filters.year_from is not None:
        asked.append("i.release_date >= make_date(:year_from, 1, 1)")
        parameters["year_from"] = filters.year_from
    if filters.year_to is not None:
        asked.append("i.release_date <= make_date(:year_to, 12, 31)")
        parameters["year_to"] = filters.year_to
    if filters.max_runtime_minutes is not None:
        asked.append("i.runtime_minutes <= :max_runtime")
        parameters["max_runtime"] = filters.max_runtime_minutes
    if filters.exclude:
        asked.append("i.item_id <> ALL(:exclude)")
        parameters["exclude"] = list(filters.exclude)
    return " AND ".join(asked)
