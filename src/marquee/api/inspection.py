"""The data as operators look at it: what there is, and what was rejected."""

from typing import Annotated

from fastapi import APIRouter, Query

from marquee.api import cursors
from marquee.api.cursors import Cursor
from marquee.api.deps import ServicesDep
from marquee.api.problems import InvalidRequestError, responses
from marquee.api.schemas.operations import (
    CatalogueBody,
    GenreItems,
    QuarantinePage,
    QuarantineSummary,
    ReasonCount,
    RejectedRow,
)
from marquee.errors import StoreUnavailableError
from marquee.store.repositories import quarantine, summaries

__all__ = ["router"]

Text = Annotated[str | None, Query(max_length=10_000, pattern=r"^[^\x00]*$")]

router = APIRouter(tags=["catalogue"])


@router.get(
    "/v1/quarantine",
    summary="Rejected rows",
    response_model=QuarantinePage,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def list_quarantine(
    services: ServicesDep,
    source: Text = None,
    reason: Text = None,
    limit: Annotated[int, Query(ge=1, le=100, description="How many rows.")] = 20,
    cursor: Cursor = None,
) -> QuarantinePage:
    """Rows of sources that did not pass their contract, newest first, page after page."""
    question = ("quarantine", source, reason)
    before = None if cursor is None else cursors.decode(cursor, question, tuple[cursors.Id])[0]
    found = await services.run_long(
        quarantine.recent, source=source, reason=reason, before=before, limit=limit + 1
    )
    more = len(found) > limit
    return QuarantinePage(
        rows=[
            RejectedRow(
                id=row.quarantine_id,
                source=row.source,
                reason=row.reason,
                row=row.content,
                at=row.created_at,
                run_id=row.run_id,
            )
            for row in found[:limit]
        ],
        next_cursor=cursors.encode(question, (found[limit - 1].quarantine_id,)) if more else None,
    )


@router.get(
    "/v1/quarantine/summary",
    summary="Why rows were rejected",
    response_model=QuarantineSummary,
    responses=responses(StoreUnavailableError),
)
async def summarise_quarantine(services: ServicesDep) -> QuarantineSummary:
    """Rejected rows by source and reason."""
    found = await services.run_long(quarantine.reasons)
    return QuarantineSummary(
        total=sum(each.count for each in found), by=[ReasonCount.model_validate(each) for each in found]
    )


@router.get(
    "/v1/catalogue/summary",
    summary="What there is",
    response_model=CatalogueBody,
    responses=responses(StoreUnavailableError),
)
async def summarise_catalogue(services: ServicesDep) -> CatalogueBody:
    """The catalogue in figures, and how many events and users there are."""
    found = await services.run_long(summaries.catalogue)
    return CatalogueBody(
        items=found.items,
        removed=found.removed,
        blocked=found.blocked,
        pinned=found.pinned,
        boosted=found.boosted,
        with_poster=found.with_poster,
        with_overview=found.with_overview,
        languages=found.languages,
        by_source=found.by_source,
        by_genre=[GenreItems(genre=genre, items=count) for genre, count in found.by_genre],
        interactions=found.interactions,
        users=found.users,
        newest_event_at=found.newest_event_at,
    )
