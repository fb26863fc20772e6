"""What is known of one person: shown to them, handed over, erased."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path as Folder
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Path, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from marquee.api import cursors
from marquee.api.catalog import Language, PageLength
from marquee.api.cursors import Cursor, Id, Moment
from marquee.api.deps import Services, ServicesDep
from marquee.api.problems import InvalidRequestError, responses
from marquee.api.schemas.people import FOLLOWS, Erasure, Export, HistoryPage, PastEvent
from marquee.api.shelf import image_url
from marquee.errors import ConflictError, StoreError, StoreUnavailableError
from marquee.jobs import Queue
from marquee.store.repositories import erasures, people
from marquee.store.repositories.people import SECTIONS, Past
from marquee.telemetry import get_logger

__all__ = ["router"]

EXPORT_ROWS: Final = 1_000
"""Rows read at a time: no connection waits for a slow client, and no export fills the memory."""

UserId = Annotated[int, Path(ge=0, lt=2**63)]

router = APIRouter(prefix="/v1/users/{user_id}", tags=["people"])


@router.get(
    "/history",
    summary="What a person did",
    response_model=HistoryPage,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def get_history(
    services: ServicesDep,
    user_id: UserId,
    lang: Language = None,
    limit: PageLength = 20,
    cursor: Cursor = None,
) -> Response:
    """
    The events that count, newest first, page after page; what is undone is left out.

    Of an unknown or erased person there are none.
    """
    question = ("history", user_id)
    after = None if cursor is None else cursors.decode(cursor, question, tuple[Moment, Id])
    found = await services.run(people.history, user_id, language=lang, after=after, limit=limit + 1)
    page = HistoryPage(
        user_id=user_id,
        events=[_shown(past) for _, past in found[:limit]],
        next_cursor=cursors.encode(question, found[limit - 1][0]) if len(found) > limit else None,
    )
    return Response(page.model_dump_json(), media_type="application/json")


@router.get(
    "/export",
    summary="Everything that is known of a person",
    response_model=Export,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def export_user(services: ServicesDep, user_id: UserId) -> StreamingResponse:
    """All rows of all tables about a person, as a file to keep."""
    parts = _export(services, user_id)
    first = await anext(parts)  # while there is no database, the answer is still a 503
    return StreamingResponse(
        _after(first, parts),
        media_type="application/json",
        headers={"content-disposition": f'attachment; filename="marquee-user-{user_id}.json"'},
    )


@router.delete(
    "",
    summary="Forget a person",
    response_model=Erasure,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def erase_user(services: ServicesDep, user_id: UserId) -> Erasure:
    """
    Erase a person from all tables, at once and for good; doing it again erases what may have come since.

    Their number is not given away again. A visitor's cookie that names it answers no more events: the site
    begins a new session, as somebody else.
    """
    folder = services.settings.paths.secrets
    erased_at = await services.run(_mark, services.queue, user_id, folder)
    try:
        await services.journal.flush()  # what this process still holds back
    except StoreError as error:  # what it writes later goes with the next `forget`, as all that fails below
        get_logger().warning("people.journal_not_written", error=error.message)
    erased = await services.run_long(erasures.delete_rows, user_id)
    return Erasure(user_id=user_id, erased_at=erased_at, erased=erased, follows=list(FOLLOWS))


def _mark(connection: Connection, queue: Queue, user_id: int, folder: Folder) -> datetime:
    """Mark a user, and have a worker do what is left to be done."""
    marked = erasures.mark(connection, user_id, folder)
    with suppress(ConflictError):  # what is under way sees to those who come meanwhile
        queue.submit(connection, "forget")
    return marked


async def _export(services: Services, user_id: int) -> AsyncIterator[bytes]:
    """The JSON of an `Export`, in parts; the first holds rows."""
    ahead = orjson.dumps({"user_id": user_id, "exported_at": datetime.now(UTC)})[:-1]
    for name, section in SECTIONS.items():
        ahead += b',"%s":[' % name.encode()
        after: tuple[Any, ...] | None = None
        more = True
        while more:
            rows = await services.run(people.read_section, name, user_id, after=after, limit=EXPORT_ROWS + 1)
            more = len(rows) > EXPORT_ROWS
            del rows[EXPORT_ROWS:]
            yield ahead + b",".join(orjson.dumps(row) for row in rows)
            after = tuple(rows[-1][column] for column in section.key) if more else None
            ahead = b"," if more else b"]"
    yield ahead + b"}"


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part


def _shown(past: Past) -> PastEvent:
    return PastEvent(
        item_id=past.item_id,
        title=past.title,
        poster_url=image_url(past.poster_path),
        event=past.event,
        rating=past.rating,
        watch_seconds=past.watch_seconds,
        occurred_at=past.occurred_at,
        event_key=past.event_key,
    )
