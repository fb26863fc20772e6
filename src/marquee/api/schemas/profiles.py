"""Bodies about users in a few numbers, and about genres."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from marquee.api.schemas.service import shown

__all__ = ["GenreCount", "GenreList", "UserList", "UserProfile", "UserSummary"]

USER: dict[str, Any] = {"user_id": 1, "kind": "virtual", "events": 57, "favourite_genres": ["Drama", "Crime"]}
GENRE: dict[str, Any] = {"genre": "Drama", "items": 123}
FAVOURITES = "Watched or liked most, weighed against how common they are; at most five."


class GenreCount(BaseModel):
    """A genre."""

    model_config = shown(GENRE)

    genre: str
    items: int = Field(description="Films of it that may be shown.")


class GenreList(BaseModel):
    """The genres of the catalogue, the most frequent first."""

    model_config = shown({"genres": [GENRE]})

    genres: list[GenreCount]


class UserSummary(BaseModel):
    """A user in a list."""

    model_config = shown(USER)

    user_id: int
    kind: Literal["virtual", "imported", "live"]
    events: int = Field(description="That count: without what is undone.")
    favourite_genres: list[str] = Field(description=FAVOURITES)


class UserList(BaseModel):
    """Users, by their number."""

    model_config = shown({"users": [USER]})

    users: list[UserSummary]


class UserProfile(BaseModel):
    """What is known of a user, in numbers."""

    model_config = shown(
        {
            "user_id": 1,
            "kind": "virtual",
            "created_at": "2026-11-22T10:00:00Z",
            "events": {"rate": 12, "watch": 45},
            "first_event_at": "2026-05-01T20:00:00Z",
            "last_event_at": "2026-11-21T21:30:00Z",
            "favourite_genres": ["Drama", "Crime"],
        }
    )

    user_id: int
    kind: Literal["virtual", "imported", "live", "erased"] | None = Field(
        description="Null of a user of whom nothing is known."
    )
    created_at: datetime | None
    events: dict[str, int] = Field(description="Those that count, by their kind.")
    first_event_at: datetime | None
    last_event_at: datetime | None
    favourite_genres: list[str] = Field(description=FAVOURITES)
