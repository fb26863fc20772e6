"""The catalogue: search, one film, and what editors do with it."""

from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import pyarrow as pa
from fastapi import APIRouter, Path, Query, Response
from pydantic import StringConstraints

from marquee.api import cursors
from marquee.api.cursors import Cursor, Days, Id, Words
from marquee.api.deps import ServicesDep
from marquee.api.problems import InvalidRequestError, UnknownItemError, responses
from marquee.api.schemas.catalog import (
    EditorialChoice,
    Item,
    ItemFields,
    ItemPage,
    ItemsWritten,
    NewItem,
    NewItems,
)
from marquee.api.schemas.service import LANGUAGE
from marquee.api.shelf import image_url
from marquee.data.schema import ITEMS
from marquee.errors import StoreUnavailableError
from marquee.recommend.filters import Filters
from marquee.store.repositories import editing, search
from marquee.store.repositories.items import FACTS, TEXTS
from marquee.store.repositories.search import ItemDetails, ItemSummary, Sort

__all__ = ["Language", "PageLength", "router"]

KEYS: Final[dict[Sort, Any]] = {
    "relevance": tuple[float, float, Id],
    "popularity": tuple[float, Id],
    "newest": tuple[Days, Id],
    "title": tuple[Words, Id],
}

Plain = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=100)]
Year = Annotated[int | None, Query(ge=1, le=9999)]
ItemId = Annotated[int, Path(ge=1, lt=2**63)]
Language = Annotated[
    str | None,
    Query(
        alias="lang",
        pattern=LANGUAGE,
        max_length=35,
        description="Language of titles and overviews, such as `ko`; where there is no such text, the "
        "catalogue's own.",
    ),
]
PageLength = Annotated[int, Query(ge=1, le=100, description="How many on a page.")]

router = APIRouter(prefix="/v1/items", tags=["catalogue"])


@router.get(
    "",
    summary="Search and list films",
    response_model=ItemPage,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def list_items(
    services: ServicesDep,
    q: Annotated[
        str | None,
        Query(
            pattern=r"^[^\x00]*$",
            max_length=200,
            description="A title in any language, as far as it is typed; typos and accents are forgiven.",
        ),
    ] = None,
    sort: Annotated[
        Sort, Query(description="`relevance` without `q` is `popularity`; `title` is from a to z.")
    ] = "relevance",
    genre: Annotated[list[Plain], Query(max_length=20, description="One of these.")] = [],  # noqa: B006
    year_from: Year = None,
    year_to: Year = None,
    language: Annotated[
        list[Plain], Query(max_length=20, description="Original language: one of these codes.")
    ] = [],  # noqa: B006
    max_runtime: Annotated[int | None, Query(ge=1, le=100_000, description="In minutes.")] = None,
    include_adult: bool = False,
    lang: Language = None,
    limit: PageLength = 20,
    cursor: Cursor = None,
) -> Response:
    """
    Films that satisfy all that is asked, page after page.

    Whole titles come first, then titles that begin so, then those with such words, then similar ones; of
    equal ones the more popular. Blocked films are left out.
    """
    filters = Filters(
        genres=tuple(genre),
        year_from=year_from,
        year_to=year_to,
        languages=tuple(language),
        max_runtime_minutes=max_runtime,
        include_adult=include_adult,
    )
    if q is None and sort == "relevance":
        sort = "popularity"
    question = (q, sort, genre, year_from, year_to, language, max_runtime, include_adult, lang)
    found = await services.run(
        search.find,
        q,
        filters,
        sort=sort,
        language=lang,
        after=None if cursor is None else cursors.decode(cursor, question, KEYS[sort]),
        limit=limit + 1,
    )
    page = ItemPage(
        items=[ItemFields(**_shown(item)) for _, item in found[:limit]],
        next_cursor=cursors.encode(question, found[limit - 1][0]) if len(found) > limit else None,
    )
    return _json(page.model_dump_json())


@router.get(
    "/{item_id}",
    summary="One film",
    response_model=Item,
    responses=responses(InvalidRequestError, UnknownItemError, StoreUnavailableError),
)
async def get_item(services: ServicesDep, item_id: ItemId, lang: Language = None) -> Response:
    """All that is known of a film; a blocked one too."""
    return _json(_item(item_id, await services.run(search.get, item_id, language=lang)))


@router.put(
    "",
    summary="Write films",
    response_model=ItemsWritten,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def put_items(services: ServicesDep, wanted: NewItems) -> ItemsWritten:
    """
    Insert films, or replace what is known of them.

    They can be recommended at once, by what they are about. An editor's word wins: from then on no other
    source changes or removes these films; popularity and votes are still observed.
    """
    written = {item.item_id: item for item in wanted.items}.values()
    rows, texts, facts = _tables(written)
    counts = await services.run_long(editing.write, rows, texts=texts, facts=facts)
    return ItemsWritten(
        inserted=counts.inserted,
        updated=counts.updated,
        unchanged=counts.unchanged + len(wanted.items) - len(written),
    )


@router.patch(
    "/{item_id}",
    summary="Pin, block or boost a film",
    response_model=Item,
    responses=responses(InvalidRequestError, UnknownItemError, StoreUnavailableError),
)
async def patch_item(services: ServicesDep, item_id: ItemId, choice: EditorialChoice) -> Response:
    """Say how a film is recommended; every source leaves that as it is."""
    await services.run(editing.choose, item_id, choice.chosen())
    return _json(_item(item_id, await services.run(search.get, item_id)))


@router.delete(
    "/{item_id}",
    summary="Take a film out",
    status_code=204,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def delete_item(services: ServicesDep, item_id: ItemId) -> None:
    """
    Take a film out of lists, search and recommendations; what people did with it stays.

    No source brings it back, only PUT. Doing it again, or with an unknown film, changes nothing.
    """
    await services.run(editing.withdraw, item_id)


def _item(item_id: int, found: ItemDetails | None) -> str:
    if found is None:
        raise UnknownItemError(f"There is no item {item_id}.", fix="GET /v1/items?q= finds items by title.")
    return Item(**_shown(found)).model_dump_json()


def _shown(item: ItemSummary) -> dict[str, Any]:
    """The members of an item, with addresses in the place of its images' paths."""
    return {
        **{field.name: getattr(item, field.name) for field in fields(item)},
        "year": item.release_date.year if item.release_date is not None else None,
        "poster_url": image_url(item.poster_path),
        "backdrop_url": image_url(item.backdrop_path, "w1280"),
    }


def _tables(written: Iterable[NewItem]) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Items, their texts, and their facts of this moment."""
    now = datetime.now(UTC)
    rows = [item.model_dump() for item in written]
    texts = [
        {"item_id": row["item_id"], "language": language, **words}
        for row in rows
        for language, words in row["texts"].items()
    ]
    facts = [
        {**row, "observed_at": now}
        for row in rows
        if any(row[name] is not None for name in ("popularity", "vote_average", "vote_count"))
    ]
    return (
        pa.Table.from_pylist(rows, schema=ITEMS),
        pa.Table.from_pylist(texts, schema=TEXTS),
        pa.Table.from_pylist(facts, schema=FACTS),
    )


def _json(body: str) -> Response:
    return Response(body, media_type="application/json")
