"""Bodies about drift, the quality of answers, and alerts."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from marquee.api.schemas.service import RUN_ID, shown
from marquee.store.repositories.monitoring import DriftKind

__all__ = [
    "AlarmBody",
    "AlertBody",
    "Alerts",
    "Drift",
    "DriftFeature",
    "DriftPoint",
    "QualityBody",
    "Severity",
]

Severity = Literal["critical", "warning", "info"]

AT = "2026-11-22T10:15:00Z"
DETAIL = {"genres": {"Horror": [0.04, 0.31]}}
FEATURE = {
    "kind": "taste",
    "name": "genre",
    "status": "drift",
    "psi": 0.41,
    "p_value": 0.00002,
    "effects": [0.39, 0.33],
    "threshold": 0.2,
    "events": 1840.0,
    "detail": DETAIL,
}
QUALITY = {
    "answers": 5210,
    "coverage": 0.34,
    "gini": 0.82,
    "popularity_share": 0.47,
    "novelty_bits": 9.1,
    "cold_users": 0.06,
    "fallback": 0.001,
    "label_delay_seconds": {"p50": 41.0, "p95": 1260.0},
    "outcomes": {"hit_rate": {"champion": 0.18}},
    "quarantine_share": 0.0002,
    "newest_event_seconds": 3.4,
}
POINT = {"at": AT, "effects": {"genre": 0.39}, "quality": QUALITY}
ALARM = {
    "alarm_id": 3,
    "kind": "taste",
    "raised_at": AT,
    "resolved_at": None,
    "evidence": {"feature": "genre", "psi": 0.41, "p_value": 0.00002, "detail": DETAIL},
    "run_id": RUN_ID,
}
ALERT = {
    "alert_id": "6f1c2a4be0d97e55",
    "name": "MarqueeDrift",
    "severity": "warning",
    "summary": "Drift: taste",
    "description": "What comes in is no longer what the champion was trained on (taste).",
    "since": AT,
    "runbook_url": "https://example.org/runbooks/MarqueeDrift.md",
    "labels": {"alertname": "MarqueeDrift", "severity": "warning", "kind": "taste"},
}


class DriftFeature(BaseModel):
    """What was compared with its reference when somebody last looked."""

    model_config = shown(FEATURE)

    kind: DriftKind
    name: str
    status: Literal["drift", "shifted", "stable", "unknown"] = Field(
        description="`drift`: both windows show it; `shifted`: one does; `unknown`: too little to say."
    )
    psi: float | None = Field(description="Population stability index of the newest window.")
    p_value: float | None = Field(description="Probability of such a difference by chance.")
    effects: list[float] = Field(
        description="Of the newest window and the one before, in the measure of `threshold`: "
        "the PSI beyond what chance makes of it, or what docs/monitoring.md says of the kind."
    )
    threshold: float = Field(description="Effect from which it matters.")
    events: float | None = Field(description="Events of the newest window.")
    detail: dict[str, Any]


class QualityBody(BaseModel):
    """The answers of a day (docs/monitoring.md); null is what cannot be told."""

    model_config = shown(QUALITY)

    answers: int
    coverage: float | None
    gini: float | None
    popularity_share: float | None
    novelty_bits: float | None
    cold_users: float | None
    fallback: float | None
    label_delay_seconds: dict[str, float | None]
    outcomes: dict[str, dict[str, float]] = Field(description="Metric → arm → value.")
    quarantine_share: float | None
    newest_event_seconds: float | None


class DriftPoint(BaseModel):
    """What was measured at a moment."""

    model_config = shown(POINT)

    at: datetime
    effects: dict[str, float] = Field(description="Feature → effect of its newest window.")
    quality: QualityBody


class AlarmBody(BaseModel):
    """Drift that was found."""

    model_config = shown(ALARM)

    alarm_id: int
    kind: DriftKind
    raised_at: datetime
    resolved_at: datetime | None = Field(description="Null while it lasts.")
    evidence: dict[str, Any]
    run_id: UUID | None = Field(description="The run that trains anew because of it.")


class Drift(BaseModel):
    """Drift and the quality of answers, now and before."""

    model_config = shown(
        {
            "computed_at": AT,
            "features": [FEATURE],
            "quality": QUALITY,
            "history": [POINT],
            "alarms": [ALARM],
        }
    )

    computed_at: datetime | None = Field(description="Null when monitoring has never run.")
    features: list[DriftFeature] = Field(description="Empty, too, where there is too little traffic.")
    quality: QualityBody | None
    history: list[DriftPoint] = Field(description="Oldest first, thinned to at most 121 points.")
    alarms: list[AlarmBody] = Field(description="All that are open and the newest others, newest first.")


class AlertBody(BaseModel):
    """Something that somebody should look at."""

    model_config = shown(ALERT)

    alert_id: str
    name: str
    severity: Severity
    summary: str
    description: str | None
    since: datetime
    runbook_url: str | None = Field(description="An address of http or https, or one that begins in no host.")
    labels: dict[str, str]


class Alerts(BaseModel):
    """Open alerts."""

    model_config = shown({"source": "alertmanager", "error": None, "total": 1, "alerts": [ALERT]})

    source: Literal["alertmanager", "drift"] = Field(
        description="Who was asked: Alertmanager, or the alarms of drift alone."
    )
    error: str | None = Field(description="Why something may be missing.")
    total: int = Field(description="Of all that are open; at most 200 are shown.")
    alerts: list[AlertBody] = Field(description="The most severe first, of these the oldest.")
