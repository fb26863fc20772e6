"""Request and response bodies, with the examples that `/docs` shows."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "AvailableContentIds",
    "AvailableContents",
    "Content",
    "ContentCard",
    "Health",
    "Info",
    "Message",
    "PredictRequest",
    "PredictResponse",
    "Problem",
    "RecentRecommendations",
    "RunAccepted",
    "RunResult",
    "RunStatus",
    "TrainRequest",
]

ContentId = Annotated[int, Field(description="TMDB id of the film.", examples=[27205], ge=1, lt=2**63)]
ListLength = Annotated[int, Field(ge=1, le=100, description="How many films to return.")]


class Message(BaseModel):
    """A greeting."""

    message: str = Field(examples=["Marquee is running. See /docs."])


class Health(BaseModel):
    """Whether the service answers, and what it lacks."""

    status: Literal["ok", "degraded"] = Field(examples=["ok"])
    database: Literal["ok", "unreachable"] = Field(examples=["ok"])
    predictor: str | None = Field(None, description="Bundle in the slot.", examples=["mlp/20261122T101500-3f2a"])
    champion: str | None = Field(None, description="Bundle in the slot.", examples=["mlp/20261122T101500-3f2a"])


class Info(BaseModel):
    """What runs here."""

    service: str = Field(examples=["marquee"])
    version: str = Field(examples=["0.1.0"])
    python: str = Field(examples=["3.11.7"])
    models: dict[str, str | None] = Field(examples=[{"predictor": "mlp/20261122T101500-3f2a"}])
    items: int = Field(description="Films in the catalogue.", examples=[200])
    notices: list[str] = Field(
        examples=[["This product uses the TMDB API but is not endorsed or certified by TMDB."]]
    )


class Content(BaseModel):
    """A film that the predictor knows."""

    content_id: ContentId
    title: str = Field(examples=["Inception"])
    poster_url: str | None = Field(examples=["https://image.tmdb.org/t/p/w500/edv5CZvWj09upOsy2Y6IwDhK8bt.jpg"])


class ContentCard(Content):
    """A recommended film."""

    overview: str | None = Field(examples=["A thief who steals secrets from dreams is asked to plant one."])


class AvailableContentIds(BaseModel):
    """The vocabulary of the predictor."""

    count: int = Field(examples=[1])
    available_content_ids: list[int] = Field(examples=[[27205]])


class AvailableContents(BaseModel):
    """The films of the predictor's vocabulary."""

    available_contents: list[Content]


class RecentRecommendations(BaseModel):
    """The newest recommendations, without duplicates."""

    recent_recommendations: list[ContentCard]


class PredictRequest(BaseModel):
    """One viewing: who watched what, how long, how they rated it, and how popular it is."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"user_id": 1, "content_id": 27205, "watch_seconds": 5400, "rating": 8.5, "popularity": 83.9}
            ]
        },
    )

    user_id: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    content_id: Annotated[int, Field(ge=1, lt=2**63, strict=True, description="TMDB id of the film.")]
    watch_seconds: Annotated[float, Field(ge=0, le=1e7, strict=True)]
    rating: Annotated[float, Field(ge=0, le=10, strict=True)]
    popularity: Annotated[float, Field(ge=0, le=1e9, strict=True)]
    k: Annotated[int, Field(ge=1, le=100, strict=True, description="How many films to return.")] = 10


class PredictResponse(BaseModel):
    """The films most probable after that viewing."""

    user_id: int = Field(examples=[1])
    recommendations: list[ContentCard]


class TrainRequest(BaseModel):
    """Which model to train."""

    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), json_schema_extra={"examples": [{"model_name": "mlp"}]}
    )

    model_name: str = Field("mlp", max_length=200, description="A name that `marquee train --help` lists.")


class RunResult(BaseModel):
    """A pipeline has finished."""

    result: str = Field(examples=["train finished"])


class RunAccepted(BaseModel):
    """A pipeline is queued."""

    run_id: UUID
    status: str = Field(examples=["queued"])
    location: str = Field(examples=["/v1/runs/0b0f8a5e-6f0e-4b9a-8f57-3d8a0c3d8f11"])


class RunStatus(BaseModel):
    """A pipeline run."""

    run_id: UUID
    pipeline: str = Field(examples=["train"])
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    parameters: dict[str, Any] = Field(examples=[{"model": "mlp"}])
    counts: dict[str, Any] = Field(examples=[{"rows": 2911}])
    progress: dict[str, Any] | None = Field(None, examples=[{"step": "epochs", "done": 12, "total": 60}])
    error: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str = Field(description="Stable name of the kind of problem.", examples=["/problems/unknown-content"])
    title: str = Field(examples=["Unknown content"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["The content_id 1 is not in the trained vocabulary."])
    fix: str | None = Field(None, examples=["GET /available-content-ids lists the known ones."])
    errors: list[dict[str, Any]] | None = Field(None, description="The offending fields.")
    run_id: UUID | None = Field(None, description="The run that is already under way (409).")
