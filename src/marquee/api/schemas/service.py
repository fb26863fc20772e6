"""Bodies of the service itself, of pipelines and of the endpoints that know films as contents."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "LANGUAGE",
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
    "RunList",
    "RunResult",
    "RunStatus",
    "RunStep",
    "ShownIn",
    "TrainRequest",
    "shown",
]

ContentId = Annotated[int, Field(description="TMDB id of the film.")]
LANGUAGE = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$"
"""A language tag, such as `ko` or `pt-BR`."""
ShownIn = Annotated[
    str | None,
    Field(
        pattern=LANGUAGE,
        max_length=35,
        description="Language of titles and overviews, such as `ko`, where there is such a text.",
    ),
]


CONTENT = {
    "content_id": 27205,
    "title": "Inception",
    "poster_url": "https://image.tmdb.org/t/p/w500/edv5CZvWj09upOsy2Y6IwDhK8bt.jpg",
}
CARD = {**CONTENT, "overview": "A thief who steals secrets from dreams is asked to plant one."}
RUN_ID = "0b0f8a5e-6f0e-4b9a-8f57-3d8a0c3d8f11"
RUN = {
    "run_id": RUN_ID,
    "pipeline": "train",
    "status": "running",
    "parameters": {"model": "mlp"},
    "counts": {},
    "step": "train: epochs",
    "progress": 0.4,
    "error": None,
    "attempts": 1,
    "created_at": "2026-11-22T10:15:00Z",
    "started_at": "2026-11-22T10:15:01Z",
    "finished_at": None,
    "steps": [],
}
BUNDLE = "mlp/20261122T101500.000000Z-3f2a9c0d1e2b"


def shown(*examples: dict[str, Any]) -> ConfigDict:
    """A model config whose examples the OpenAPI document shows."""
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class Message(BaseModel):
    """A greeting."""

    model_config = shown({"message": "Marquee is running. See /docs."})

    message: str


class Health(BaseModel):
    """Whether the service answers, and what it lacks."""

    model_config = shown(
        {"status": "ok", "database": "ok", "lacks": [], "predictor": BUNDLE, "champion": BUNDLE}
    )

    status: Literal["ok", "degraded"]
    database: Literal["ok", "unreachable"]
    lacks: list[str] = Field(description="What makes it degraded.")
    predictor: str | None = Field(description="Bundle in the slot.")
    champion: str | None = Field(description="Bundle in the slot.")


class Info(BaseModel):
    """What runs here."""

    model_config = shown(
        {
            "service": "marquee",
            "version": "0.2.0",
            "python": "3.11.7",
            "models": {"predictor": BUNDLE, "champion": BUNDLE},
            "items": 200,
            "notices": ["This product uses the TMDB API but is not endorsed or certified by TMDB."],
        }
    )

    service: str
    version: str
    python: str
    models: dict[str, str | None] = Field(description="Slot → bundle.")
    items: int | None = Field(description="Films in the catalogue; null while the database is away.")
    notices: list[str]


class Content(BaseModel):
    """A film that the predictor knows."""

    model_config = shown(CONTENT)

    content_id: ContentId
    title: str
    poster_url: str | None


class ContentCard(Content):
    """A recommended film."""

    model_config = shown(CARD)

    overview: str | None


class AvailableContentIds(BaseModel):
    """The vocabulary of the predictor."""

    model_config = shown({"count": 2, "available_content_ids": [27205, 603]})

    count: int
    available_content_ids: list[int]


class AvailableContents(BaseModel):
    """The films of the predictor's vocabulary."""

    model_config = shown({"available_contents": [CONTENT]})

    available_contents: list[Content]


class RecentRecommendations(BaseModel):
    """The newest recommendations, without duplicates."""

    model_config = shown({"recent_recommendations": [CARD]})

    recent_recommendations: list[ContentCard]


class PredictRequest(BaseModel):
    """One viewing: who watched what, how long, how they rated it, and how popular it is."""

    model_config = shown(
        {"user_id": 1, "content_id": 27205, "watch_seconds": 5400, "rating": 8.5, "popularity": 83.9}
    ) | ConfigDict(extra="forbid", allow_inf_nan=False)

    user_id: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    content_id: Annotated[int, Field(ge=1, lt=2**63, strict=True, description="TMDB id of the film.")]
    watch_seconds: Annotated[float, Field(ge=0, le=1e7, strict=True)]
    rating: Annotated[float, Field(ge=0, le=10, strict=True)]
    popularity: Annotated[float, Field(ge=0, le=1e9, strict=True)]
    k: Annotated[int, Field(ge=1, le=100, strict=True, description="How many films to return.")] = 10
    lang: ShownIn = None


class PredictResponse(BaseModel):
    """The films most probable after that viewing."""

    model_config = shown({"user_id": 1, "recommendations": [CARD]})

    user_id: int
    recommendations: list[ContentCard]


class TrainRequest(BaseModel):
    """Which model to train."""

    model_config = shown({"model_name": "mlp"}) | ConfigDict(extra="forbid", protected_namespaces=())

    model_name: str = Field(max_length=200, description="A built-in model or one of an installed plug-in.")


class RunResult(BaseModel):
    """A pipeline has finished."""

    model_config = shown({"result": "train finished"})

    result: str


class RunAccepted(BaseModel):
    """A pipeline is queued or running."""

    model_config = shown({"run_id": RUN_ID, "status": "queued", "location": f"/v1/runs/{RUN_ID}"})

    run_id: UUID
    status: str
    location: str


class RunStep(BaseModel):
    """A part of a run of several."""

    name: str = Field(description="Its pipeline.")
    run_id: UUID = Field(description="It is a run, too.")
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: float | None
    started_at: datetime | None
    finished_at: datetime | None


class RunStatus(BaseModel):
    """A pipeline run."""

    model_config = shown(RUN) | ConfigDict(from_attributes=True)

    run_id: UUID
    pipeline: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    parameters: dict[str, Any]
    counts: dict[str, Any] = Field(description="What it counted, once finished.")
    step: str | None = Field(description="What it is doing.")
    progress: float | None = Field(description="0–1, null where unknown.", ge=0, le=1)
    error: str | None = Field(description="Why it failed, in one line.")
    attempts: int = Field(description="How often it was started; more than one after a crash.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    steps: list[RunStep] = Field([], description="Of a run of several steps, in their order.")


class RunList(BaseModel):
    """Pipeline runs, newest first."""

    model_config = shown({"runs": [RUN]})

    runs: list[RunStatus]


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Path of the field, such as `body.watch_seconds` or `query.k`.")
    message: str


class Problem(BaseModel):
    """An error, as RFC 9457 describes it; members without value are left out."""

    type: str = Field(description="Stable name of the kind of problem.")
    title: str
    status: int
    detail: str = Field(description="What happened, with the value it happened to.")
    fix: str | None = Field(None, description="What to do next.")
    errors: list[FieldError] | None = Field(None, description="The offending fields (422).")
    run_id: UUID | None = Field(None, description="The run under way (409), or the one that failed (500).")
