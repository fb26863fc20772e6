"""Bodies of the recommendations."""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from marquee.api.schemas.service import BUNDLE, ShownIn, shown

__all__ = [
    "BatchRequest",
    "ListOptions",
    "RecommendationList",
    "RecommendationLists",
    "RecommendedItem",
    "SessionEvent",
    "SessionRequest",
    "SimilarList",
]

MOST_EVENTS = 200
MOST_USERS = 1_000
MOST_EXCLUDED = 1_000

ItemId = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
UserId = Annotated[int, Field(ge=0, lt=2**63, strict=True)]

CARD: dict[str, Any] = {
    "item_id": 27205,
    "title": "Inception",
    "original_title": "Inception",
    "release_date": "2010-07-15",
    "year": 2010,
    "runtime_minutes": 148,
    "genres": ["Action", "Science Fiction"],
    "original_language": "en",
    "overview": "A thief who steals secrets from dreams is asked to plant one.",
    "poster_url": "https://image.tmdb.org/t/p/w500/edv5CZvWj09upOsy2Y6IwDhK8bt.jpg",
    "backdrop_url": None,
}
REASON: dict[str, Any] = {**CARD, "item_id": 603, "title": "The Matrix", "year": 1999, "share": 0.41}
REASONS: dict[str, Any] = {"because": [REASON], "features": []}
RECOMMENDED: dict[str, Any] = {**CARD, "rank": 1, "score": 0.731, "reasons": REASONS}
REQUEST_ID = "5f0c2a9e-8f57-4b9a-9f57-3d8a0c3d8f11"
LIST: dict[str, Any] = {
    "request_id": REQUEST_ID,
    "user_id": 1,
    "bundle": BUNDLE,
    "tier": "personal",
    "source": "model",
    "qualified": 9731,
    "items": [RECOMMENDED],
}
EVENT: dict[str, Any] = {"item_id": 603, "event": "watch", "watch_seconds": 5400}


class Card(BaseModel):
    """A film."""

    item_id: int
    title: str
    original_title: str | None
    release_date: date | None
    year: int | None = Field(description="Of release.")
    runtime_minutes: int | None
    genres: list[str]
    original_language: str | None
    overview: str | None
    poster_url: str | None
    backdrop_url: str | None


class Because(Card):
    """A film of the user's that speaks for a recommendation."""

    share: float = Field(description="Without this film the score would be lower by this share of it.")


class Reasons(BaseModel):
    """Why a film is recommended."""

    because: list[Because] = Field(description="Films of the user's, the greatest share first.")
    features: list[str] = Field(description="What else speaks for it, where the model can tell.")


class RecommendedItem(Card):
    """A recommended film."""

    model_config = shown(RECOMMENDED)

    rank: int = Field(ge=1)
    score: float = Field(description="Of the model; scores of different bundles do not compare.")
    reasons: Reasons | None = Field(None, description="With `explain`.")


class RecommendationList(BaseModel):
    """Films for somebody, best first."""

    model_config = shown(LIST)

    request_id: UUID = Field(description="Send it with the events that come of this list.")
    user_id: int | None
    bundle: str = Field(description="Which model answered.")
    tier: Literal["personal", "session", "popular"] = Field(
        description="`personal`: from all that is known of the user; `session`: from the events sent; "
        "`popular`: nothing is known, or a personal list could not be made in time."
    )
    source: Literal["model", "precomputed", "popular"] = Field(
        description="`precomputed`: by the newest batch, of all that is known by now; `popular`: counted."
    )
    qualified: int = Field(description="Films that could have been listed; fewer than k only if these are.")
    items: list[RecommendedItem]


class RecommendationLists(BaseModel):
    """Lists of several users, in their order."""

    model_config = shown({"lists": [LIST]})

    lists: list[RecommendationList]


class SimilarList(BaseModel):
    """Films like another, the most similar first."""

    model_config = shown(
        {
            "request_id": REQUEST_ID,
            "item_id": 603,
            "bundle": BUNDLE,
            "qualified": 87,
            "items": [{**CARD, "rank": 1, "score": 0.64}],
        }
    )

    request_id: UUID
    item_id: int
    bundle: str
    qualified: int = Field(description="Similar films that could have been listed.")
    items: list[RecommendedItem]


class ListOptions(BaseModel):
    """What a list must be."""

    model_config = shown({"k": 10, "genre": ["Drama"], "year_from": 1990, "diversity": 0.3}) | ConfigDict(
        extra="forbid", allow_inf_nan=False
    )

    k: Annotated[int, Field(ge=1, le=100, strict=True, description="How many films to return.")] = 10
    genre: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]],
        Field(max_length=50, description="At least one of these."),
    ] = []
    year_from: Annotated[int, Field(ge=0, le=9999, description="Of release, included.")] | None = None
    year_to: Annotated[int, Field(ge=0, le=9999, description="Of release, included.")] | None = None
    language: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=35)]],
        Field(max_length=50, description="Original language, one of these codes."),
    ] = []
    max_runtime: Annotated[int, Field(ge=1, le=100_000, description="Minutes.")] | None = None
    include_adult: bool = False
    exclude: Annotated[
        list[ItemId], Field(max_length=MOST_EXCLUDED, description="Films that must not be listed.")
    ] = []
    diversity: Annotated[float, Field(ge=0, le=1, description="0: the best; 1: as varied as can be.")] = 0.0
    explain: Annotated[bool, Field(description="Say of each film why it is listed.")] = False
    lang: ShownIn = None


class SessionEvent(BaseModel):
    """What somebody did in this session."""

    model_config = shown(EVENT) | ConfigDict(extra="forbid", allow_inf_nan=False)

    item_id: ItemId
    event: Literal["watch", "rate", "like", "hide", "click"]
    rating: Annotated[float, Field(ge=0, le=10)] | None = Field(None, description="With `rate`.")
    watch_seconds: Annotated[float, Field(ge=0, le=1e7)] | None = None
    occurred_at: AwareDatetime | None = Field(
        None, description="With time zone; without it, events are in the order of the list and of just now."
    )


class SessionRequest(ListOptions):
    """A session of somebody unknown, oldest event first; nothing of it is kept but the list."""

    model_config = shown({"events": [EVENT], "k": 10})

    events: Annotated[list[SessionEvent], Field(max_length=MOST_EVENTS)]


class BatchRequest(ListOptions):
    """Users to make lists for."""

    model_config = shown({"user_ids": [1, 2, 3], "k": 10})

    user_ids: Annotated[list[UserId], Field(min_length=1, max_length=MOST_USERS)]
