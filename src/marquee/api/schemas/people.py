"""Bodies about one person: what they did, all that is known of them, and their erasure."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from marquee.api.schemas.service import BUNDLE, shown

__all__ = ["Erasure", "Export", "HistoryPage", "PastEvent"]

REQUEST_ID = "5d1e7a0c-52c8-4d6e-9a2f-0a8a3f7b1c22"
EVENT: dict[str, Any] = {
    "item_id": 27205,
    "title": "Inception",
    "poster_url": "https://image.tmdb.org/t/p/w500/edv5CZvWj09upOsy2Y6IwDhK8bt.jpg",
    "event": "rate",
    "rating": 8.5,
    "watch_seconds": None,
    "occurred_at": "2026-11-22T20:15:00Z",
    "event_key": "b0c7",
}
FOLLOWS = (
    "The next snapshot, and with it the next model, is made without this user.",
    "The model that serves now was trained with these events; it is replaced by the next one.",
    "Input files are rewritten without this user within minutes; snapshots, batch predictions and archives "
    "of data sets of before go when they expire.",
    "Backups of before keep their rows until they expire; whatever is restored from them leaves this user "
    "out.",
    "Events that arrive for this user from now on are refused.",
)


class PastEvent(BaseModel):
    """One thing a person did that counts."""

    model_config = shown(EVENT)

    item_id: int
    title: str | None = Field(description="In the language asked for, where there is such a text.")
    poster_url: str | None
    event: str
    rating: float | None = Field(description="0–10.")
    watch_seconds: float | None
    occurred_at: datetime
    event_key: str | None = Field(
        description="What an `undo` names; null where the event came from a file or a simulated audience."
    )


class HistoryPage(BaseModel):
    """A page of what a person did."""

    model_config = shown({"user_id": 1, "events": [EVENT], "next_cursor": None})

    user_id: int
    events: list[PastEvent] = Field(description="Newest first, without what is undone.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")


class Export(BaseModel):
    """Everything that is kept of a person, as it is in the tables."""

    model_config = shown(
        {
            "user_id": 1,
            "exported_at": "2026-11-22T20:20:00Z",
            "profile": [
                {"user_id": 1, "kind": "live", "created_at": "2026-11-22T20:10:00Z", "erased_at": None}
            ],
            "interactions": [
                {
                    "interaction_id": 12,
                    "item_id": 27205,
                    "event": "rate",
                    "rating": 8.5,
                    "watch_seconds": None,
                    "occurred_at": "2026-11-22T20:15:00Z",
                    "ingested_at": "2026-11-22T20:15:00Z",
                    "source": "live",
                    "event_key": "1:b0c7",
                    "revokes": None,
                    "request_id": REQUEST_ID,
                }
            ],
            "impressions": [
                {
                    "request_id": REQUEST_ID,
                    "served_at": "2026-11-22T20:14:00Z",
                    "item_ids": [27205, 603],
                    "scores": [0.9, 0.7],
                    "propensities": None,
                    "bundle": BUNDLE,
                    "arm": None,
                    "surface": "recommendations",
                    "viewed_at": None,
                    "tier": "personal",
                    "experiment_id": None,
                    "duration_ms": 0.8,
                    "error": None,
                }
            ],
            "shadow_answers": [],
            "predictions": [],
            "recommendations": [],
            "quarantine": [],
        }
    )

    user_id: int
    exported_at: datetime
    profile: list[dict[str, Any]] = Field(description="At most one; none of an unknown user.")
    interactions: list[dict[str, Any]] = Field(description="Undone ones, and the undos, included.")
    impressions: list[dict[str, Any]] = Field(description="What was shown to them.")
    shadow_answers: list[dict[str, Any]] = Field(description="What another model would have shown.")
    predictions: list[dict[str, Any]]
    recommendations: list[dict[str, Any]] = Field(description="Computed ahead.")
    quarantine: list[dict[str, Any]] = Field(description="Input rows about them that were rejected.")


class Erasure(BaseModel):
    """A person is forgotten."""

    model_config = shown(
        {
            "user_id": 1,
            "erased_at": "2026-11-22T20:30:00Z",
            "erased": {
                "interactions": 42,
                "shadow_answers": 0,
                "impressions": 17,
                "predictions": 0,
                "recommendations": 1,
                "quarantine": 0,
            },
            "follows": list(FOLLOWS),
        }
    )

    user_id: int
    erased_at: datetime = Field(description="When it was asked for first.")
    erased: dict[str, int] = Field(description="Rows deleted now, per table.")
    follows: list[str] = Field(description="What becomes of what is elsewhere.")
