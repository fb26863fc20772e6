"""Bodies of feedback."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from marquee.api.schemas.service import shown

__all__ = ["EventList", "EventReceipt", "EventReport", "ReportedEvent"]

MOST_EVENTS: Final = 1_000

WATCH: dict[str, Any] = {
    "user_id": 1,
    "item_id": 603,
    "event": "watch",
    "watch_seconds": 5400,
    "event_key": "player-7:603:2026-11-22",
    "request_id": "5f0c2a9e-8f57-4b9a-9f57-3d8a0c3d8f11",
    "occurred_at": "2026-11-22T20:15:00Z",
}
UNDO: dict[str, Any] = {"user_id": 1, "event": "undo", "revokes": "player-7:603:2026-11-22"}

EventKey = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
BigInt = Annotated[int, Field(ge=0, lt=2**63, strict=True)]

CARRIED: Final = {
    "rating": ("rate", "watch"),
    "watch_seconds": ("watch", "rate"),
    "revokes": ("undo",),
}
"""What only some events may carry."""


class ReportedEvent(BaseModel):
    """What a user did, or what came on their screen."""

    model_config = shown(WATCH, UNDO) | ConfigDict(extra="forbid", allow_inf_nan=False)

    user_id: BigInt | None = Field(None, description="Whose event it is; visitors may leave it out: theirs.")
    item_id: BigInt | None = Field(
        None, description="A film of the catalogue; only `undo` and `view` go without."
    )
    event: Literal["watch", "rate", "like", "hide", "click", "undo", "view"] = Field(
        description="`undo` takes back the event that `revokes` names, be it here already or not; `view`: "
        "the list of the answer `request_id` came on screen."
    )
    event_key: EventKey | None = Field(
        None,
        description="Tells the event apart from the user's others: sent again, it changes nothing. Without "
        "one an event is given a key, and sending it again makes another event.",
    )
    request_id: UUID | None = Field(
        None,
        description="Of the answer that led to it; a `view` of an answer that is not known says nothing.",
    )
    occurred_at: AwareDatetime | None = Field(
        None, description="With time zone; default: now. A clock may be ahead by a few minutes."
    )
    rating: Annotated[float, Field(ge=0, le=10, strict=True)] | None = Field(
        None, description="Of a `rate`, or along with a `watch`."
    )
    watch_seconds: Annotated[float, Field(ge=0, le=1e7, strict=True)] | None = Field(
        None, description="Of a `watch`."
    )
    revokes: EventKey | None = Field(None, description="Of an `undo`: the `event_key` to take back.")

    @model_validator(mode="after")
    def _complete(self) -> "ReportedEvent":
        needed = {"rate": "rating", "undo": "revokes", "view": "request_id"}.get(self.event)
        problems = []
        if needed is not None and getattr(self, needed) is None:
            problems.append((needed, "missing", f"An event of the kind {self.event!r} needs it"))
        if self.item_id is None and self.event not in ("undo", "view"):
            problems.append(("item_id", "missing", f"An event of the kind {self.event!r} needs it"))
        for name, kinds in CARRIED.items():
            if getattr(self, name) is not None and self.event not in kinds:
                problems.append((name, "not_carried", f"An event of the kind {self.event!r} has none"))
        if problems:
            raise ValidationError.from_exception_data(
                "ReportedEvent",
                [
                    InitErrorDetails(type=PydanticCustomError(kind, message), loc=(name,), input=None)
                    for name, kind, message in problems
                ],
            )
        return self


class EventList(BaseModel):
    """Several events; all of them are stored, or none."""

    model_config = shown({"events": [WATCH, UNDO]}) | ConfigDict(extra="forbid")

    events: Annotated[list[ReportedEvent], Field(min_length=1, max_length=MOST_EVENTS)]


def _one_or_many(value: Any, _: ValidatorFunctionWrapHandler) -> ReportedEvent | EventList:
    """What is wrong is told of the form that was meant, not of both."""
    form = EventList if isinstance(value, dict) and "events" in value else ReportedEvent
    return form.model_validate(value)


class EventReport(RootModel[Annotated[ReportedEvent | EventList, WrapValidator(_one_or_many)]]):
    """One event, or several as `events`."""

    model_config = shown(WATCH, {"events": [WATCH, UNDO]})


class EventReceipt(BaseModel):
    """The events are stored: whatever happens to a server, they count from now on."""

    model_config = shown({"accepted": 1, "duplicates": 0, "event_keys": ["player-7:603:2026-11-22"]})

    accepted: int = Field(description="Events that are new.")
    duplicates: int = Field(description="Events that were there already, by their key.")
    event_keys: list[str | None] = Field(description="The key of each, to undo it by; null of a `view`.")
