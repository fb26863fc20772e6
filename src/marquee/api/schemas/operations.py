"""Bodies for operators: how the service is, what runs logged, what was rejected, how answers turned out."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from marquee.api.schemas.experiments import COMPARISON, ComparisonBody, Metric
from marquee.api.schemas.service import BUNDLE, RUN_ID, shown

__all__ = [
    "CatalogueBody",
    "ExperimentHistory",
    "LogLine",
    "LogPage",
    "Outcomes",
    "Overview",
    "PipelineRequest",
    "QuarantinePage",
    "QuarantineSummary",
]

AT = "2026-11-22T10:15:00Z"
LINE = {"id": 17, "run_id": RUN_ID, "at": AT, "level": "info", "event": "run.step", "fields": {"step": "fit"}}
MINUTE = {"at": AT, "count": 118}
SERVED = {"bundle": BUNDLE, "model": "mlp", "age_seconds": 3600.5}
REJECTED = {
    "id": 5,
    "source": "tmdb",
    "reason": "title: Field required",
    "row": {"id": 27205},
    "at": AT,
    "run_id": RUN_ID,
}
POINT = {"at": AT, "value": 0.21, "low": 0.18, "high": 0.24, "count": 830}


class PipelineRequest(BaseModel):
    """What to train, and how long everyone's lists are to be."""

    model_config = shown({"model_name": "ease", "k": 20}) | ConfigDict(
        extra="forbid", protected_namespaces=()
    )

    model_name: str = Field(
        "mlp", max_length=200, description="A built-in model or one of an installed plug-in."
    )
    k: int = Field(20, ge=1, le=1000, strict=True, description="Films in each precomputed list.")


class LogLine(BaseModel):
    """A line that a run has logged."""

    model_config = shown(LINE)

    id: int
    run_id: UUID = Field(description="The run, or the step of it.")
    at: datetime
    level: str
    event: str
    fields: dict[str, Any]


class LogPage(BaseModel):
    """Lines in the order of their writing."""

    model_config = shown({"lines": [LINE], "next": "17"})

    lines: list[LogLine]
    next: str = Field(description="Send it as `after` to get the lines behind these, once there are any.")


class Part(BaseModel):
    """A part of the service."""

    name: Literal["database", "worker", "objects", "predictor", "champion", "site"]
    status: Literal["ok", "degraded", "down"]
    detail: str


class ServedModel(BaseModel):
    """A model that answers."""

    model_config = shown(SERVED)

    bundle: str
    model: str
    age_seconds: float = Field(description="Since it was deployed.")


class Minute(BaseModel):
    """What came in during a minute."""

    at: datetime
    count: int


class TierShare(BaseModel):
    """Answers by what they knew of the user."""

    tier: str
    share: float
    count: int


class LatencyBody(BaseModel):
    """Percentiles of the time that answers took, in milliseconds; null without any."""

    p50: float | None
    p95: float | None
    p99: float | None


class Errors(BaseModel):
    """Answers that another model had to give."""

    count: int
    share: float


class Overview(BaseModel):
    """How the service is, and what came in of late."""

    model_config = shown(
        {
            "status": "ok",
            "lacks": [],
            "parts": [{"name": "database", "status": "ok", "detail": "localhost:5432/marquee"}],
            "champion": SERVED,
            "predictor": SERVED,
            "requests_per_minute": [MINUTE],
            "events_per_minute": [MINUTE],
            "tiers": [{"tier": "personal", "share": 0.8, "count": 94}],
            "latency_ms": {"p50": 1.9, "p95": 6.2, "p99": 11.4},
            "errors": {"count": 0, "share": 0.0},
            "window_minutes": 60,
            "is_sampled": False,
        }
    )

    status: Literal["ok", "degraded"]
    lacks: list[str]
    parts: list[Part]
    champion: ServedModel | None
    predictor: ServedModel | None
    requests_per_minute: list[Minute] = Field(description="Answers with films, oldest minute first.")
    events_per_minute: list[Minute] = Field(description="Events that were sent, by their arrival.")
    tiers: list[TierShare]
    latency_ms: LatencyBody
    errors: Errors
    window_minutes: int
    is_sampled: bool = Field(description="Requests are so many that counts are estimated from a sample.")


class RejectedRow(BaseModel):
    """A row that did not pass its contract."""

    id: int
    source: str
    reason: str
    row: dict[str, Any]
    at: datetime
    run_id: UUID | None


class QuarantinePage(BaseModel):
    """Rejected rows, newest first."""

    model_config = shown({"rows": [REJECTED], "next_cursor": None})

    rows: list[RejectedRow]
    next_cursor: str | None


class ReasonCount(BaseModel):
    """Why rows of a source were rejected."""

    model_config = ConfigDict(from_attributes=True)

    source: str
    reason: str
    count: int
    newest_at: datetime


class QuarantineSummary(BaseModel):
    """Rejected rows by source and reason, the most first."""

    model_config = shown(
        {
            "total": 3,
            "by": [{"source": "tmdb", "reason": "title: Field required", "count": 3, "newest_at": AT}],
        }
    )

    total: int
    by: list[ReasonCount]


class GenreItems(BaseModel):
    """Films of a genre."""

    genre: str
    items: int


class CatalogueBody(BaseModel):
    """What the database holds; all but `removed` count films that are not removed."""

    model_config = shown(
        {
            "items": 200,
            "removed": 1,
            "blocked": 2,
            "pinned": 1,
            "boosted": 3,
            "with_poster": 198,
            "with_overview": 200,
            "languages": {"ko": 180},
            "by_source": {"tmdb": 199, "editor": 1},
            "by_genre": [{"genre": "Drama", "items": 81}],
            "interactions": 2914,
            "users": 300,
            "newest_event_at": AT,
        }
    )

    items: int
    removed: int
    blocked: int
    pinned: int
    boosted: int
    with_poster: int
    with_overview: int
    languages: dict[str, int] = Field(description="Language → films with a text in it.")
    by_source: dict[str, int]
    by_genre: list[GenreItems]
    interactions: int = Field(description="Exact up to 200,000, beyond that PostgreSQL's estimate.")
    users: int = Field(description="Exact up to 200,000, beyond that PostgreSQL's estimate.")
    newest_event_at: datetime | None


class OutcomePoint(BaseModel):
    """A metric in one span of time."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime = Field(description="The beginning of the span.")
    value: float
    low: float | None = Field(description="Of its 95 % interval; null with too few users.")
    high: float | None
    count: int = Field(description="Answers, or watches, behind it.")


class OutcomeSeries(BaseModel):
    """A metric of an arm over time."""

    model_config = ConfigDict(from_attributes=True)

    arm: str
    metric: Metric
    points: list[OutcomePoint]


class Outcomes(BaseModel):
    """What became of the answers, by arm and metric."""

    model_config = shown({"series": [{"arm": "champion", "metric": "hit_rate", "points": [POINT]}]})

    series: list[OutcomeSeries]


class LookBody(BaseModel):
    """What an experiment had shown at a moment."""

    model_config = ConfigDict(from_attributes=True)

    measured_at: datetime
    comparisons: list[ComparisonBody]


class ExperimentHistory(BaseModel):
    """The looks at an experiment, oldest first."""

    model_config = shown({"looks": [{"measured_at": AT, "comparisons": [COMPARISON]}]})

    looks: list[LookBody]
