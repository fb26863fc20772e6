"""Feedback: what users did, stored before it is acknowledged."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Final
from uuid import uuid4

import orjson
from fastapi import APIRouter, Body, Response
from prometheus_client import Counter
from pydantic import ValidationError

from marquee.api.access import Caller, CallerDep
from marquee.api.deps import Services, ServicesDep
from marquee.api.hot import HotCall, HotRoute, PassOn, Reply
from marquee.api.problems import ForbiddenError, InvalidRequestError, UnknownItemError, responses
from marquee.api.schemas.events import EventList, EventReceipt, EventReport, ReportedEvent
from marquee.data import Event
from marquee.errors import ErasedUserError, StoreError, StoreUnavailableError
from marquee.store.repositories import items
from marquee.store.repositories.feedback import EPOCH, to_microseconds
from marquee.store.repositories.impressions import View
from marquee.store.repositories.interactions import NewEvent
from marquee.telemetry import metrics

__all__ = ["HOT", "router"]

NO_ITEM: Final = 0
"""The item of an undo that names none: the event that it takes back has one."""
NAMED_ITEMS: Final = 20

router = APIRouter(tags=["events"])


@router.post(
    "/v1/events",
    status_code=202,
    summary="What users did",
    response_model=EventReceipt,
    responses=responses(
        InvalidRequestError,
        ForbiddenError,
        UnknownItemError,
        ErasedUserError,
        StoreUnavailableError,
        StoreError,
    ),
)
async def report_events(
    services: ServicesDep, caller: CallerDep, report: Annotated[EventReport, Body()]
) -> Response:
    """
    Stores events of one user or many; the next answer of every process knows them.

    202 is sent once PostgreSQL has committed. After a 503, or without any answer, the events may be stored or
    not: send them again with the same keys. Either all events of a request are stored, or none.
    """
    several = isinstance(report.root, EventList)
    events = report.root.events if isinstance(report.root, EventList) else [report.root]
    reply = await _store(services, caller, events, several=several)
    return Response(reply.body, reply.status, media_type="application/json")


async def _report_hot(call: HotCall) -> Reply:
    if call.header(b"content-type").partition(b";")[0] != b"application/json":
        raise PassOn
    several = b'"events"' in call.body
    try:
        if several:
            events: Sequence[ReportedEvent] = EventList.model_validate_json(call.body).events
        else:
            events = [ReportedEvent.model_validate_json(call.body)]
    except ValidationError:
        raise PassOn from None  # to whoever words the refusal
    return await _store(call.services, call.scope["marquee"], events, several=several)


HOT: Final[Sequence[HotRoute]] = (HotRoute("POST", "/v1/events", _report_hot),)


async def _store(
    services: Services, caller: Caller, events: Sequence[ReportedEvent], *, several: bool
) -> Reply:
    now = datetime.now(UTC)
    latest = now + timedelta(days=services.settings.api.history_days_ahead)
    new: list[NewEvent] = []
    views: list[View] = []
    keys: list[str | None] = []
    for i, event in enumerate(events):
        place = f"body.events.{i}" if several else "body"
        user_id = caller.user_id if event.user_id is None else event.user_id
        if user_id is None:
            raise InvalidRequestError("Whose event it is must be said.", field=f"{place}.user_id")
        if user_id != caller.user_id and not caller.may_act_as(user_id):
            raise ForbiddenError(
                f"This visitor may not report what the user {user_id} did.",
                fix="Leave user_id out, or use a key of the role service.",
            )
        moment = now if event.occurred_at is None else event.occurred_at
        if not EPOCH <= moment <= latest:
            when = "before 1970" if moment < EPOCH else "in the future"
            raise InvalidRequestError(
                f"{moment.isoformat()} lies {when}.",
                field=f"{place}.occurred_at",
                fix=f"It is {now:%Y-%m-%dT%H:%M:%SZ}; set the clock, or leave occurred_at out.",
            )
        if event.event == "view":
            assert event.request_id is not None
            views.append(View(event.request_id, user_id, to_microseconds(moment)))
            keys.append(None)
        else:
            key = uuid4().hex if event.event_key is None else event.event_key
            new.append(_new_event(event, user_id, key, moment))
            keys.append(key)
    await _know_items(services, {event.item_id for event in new if event.event is not Event.UNDO})
    is_new = await services.events.append(new, views)
    for stored, result in zip(new, is_new, strict=True):
        _counter(stored.event.label, "stored" if result else "duplicate").inc()
    for _ in views:
        _counter("view", "stored").inc()
    accepted = sum(is_new) + len(views)
    body = {"accepted": accepted, "duplicates": len(events) - accepted, "event_keys": keys}
    return Reply(orjson.dumps(body), 202)


@cache
def _counter(event: str, result: str) -> Counter:
    return metrics.EVENTS.labels(event, result)


def _new_event(event: ReportedEvent, user_id: int, key: str, moment: datetime) -> NewEvent:
    """The event with its keys made the user's own, so that nobody's key stands in another's way."""
    return NewEvent(
        user_id,
        NO_ITEM if event.item_id is None else event.item_id,
        Event[event.event.upper()],
        f"{user_id}:{key}",
        moment,
        event.rating,
        event.watch_seconds,
        None if event.revokes is None else f"{user_id}:{event.revokes}",
        event.request_id,
    )


async def _know_items(services: Services, item_ids: set[int]) -> None:
    """
    See that all items are in the catalogue or in what is served.

    Raises:
        UnknownItemError: naming those that are in neither.
    """
    unknown = item_ids - services.known_items
    if not unknown:
        return
    for slot in ("champion", "predictor"):
        served = services.slots.get(slot)
        if served is not None:
            unknown = {item_id for item_id in unknown if item_id not in served.cards}
    if unknown:
        unknown -= (await services.run(items.sources, sorted(unknown))).keys()
    if unknown:
        named = ", ".join(map(str, sorted(unknown)[:NAMED_ITEMS]))
        more = f" and {len(unknown) - NAMED_ITEMS} more" if len(unknown) > NAMED_ITEMS else ""
        raise UnknownItemError(
            f"The catalogue has no item {named}{more}; nothing was stored.",
            fix="PUT /v1/items adds items of your own.",
        )
    services.known_items |= item_ids
