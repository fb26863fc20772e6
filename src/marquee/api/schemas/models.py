"""Bodies about versions of models: what there is, and what serves."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from marquee.api.schemas.service import BUNDLE, shown

__all__ = [
    "ApprovalRequest",
    "Deployed",
    "ModelList",
    "ModelVersion",
    "PromotionRequest",
    "PromotionResult",
    "RollbackRequest",
    "VersionName",
]

VERSION = BUNDLE.partition("/")[2]
VersionName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=300,
        pattern=r"^[^\x00]*$",
        description="Of a model, with or without its name before it (`ease/…`).",
    ),
]
Reason = Annotated[
    str, Field(max_length=2_000, pattern=r"^[^\x00]*$", description="Why; kept with the deployment.")
]

MODEL: dict[str, Any] = {
    "model": "ease",
    "version": VERSION,
    "bundle": BUNDLE,
    "digest": "3f2a9c0d1e2b" + "0" * 52,
    "slots": ["champion"],
    "trained_at": "2026-11-22T10:15:00Z",
    "age_seconds": 3600.0,
    "verdict": "passed",
    "reasons": ["NDCG@10 is better."],
    "judged_at": "2026-11-22T10:20:00Z",
    "ndcg_at_10": 0.183,
    "metrics": {},
    "size_bytes": 1048576,
}


class ModelVersion(BaseModel):
    """A trained model."""

    model_config = shown(MODEL) | ConfigDict(from_attributes=True)

    model: str
    version: str | None
    bundle: str
    digest: str = Field(description="SHA-256 of all that the bundle says.")
    slots: list[str] = Field(description="That hold it now.")
    trained_at: datetime
    age_seconds: float
    verdict: str | None = Field(description="Of the gate, the last time it was asked.")
    reasons: list[str]
    judged_at: datetime | None
    ndcg_at_10: float | None = Field(description="That the gate measured.")
    metrics: dict[str, float | None] = Field(description="That its training reported.")
    size_bytes: int | None = Field(description="Of its files; null where they are gone.")


class ModelList(BaseModel):
    """Versions, newest first."""

    model_config = shown({"models": [MODEL]})

    models: list[ModelVersion]


class PromotionRequest(BaseModel):
    """Which version to put before the gate."""

    model_config = shown({"version": VERSION, "require_approval": True}) | ConfigDict(extra="forbid")

    version: VersionName | None = Field(None, description="Default: the newest challenger.")
    force: bool = Field(False, strict=True, description="Promote it whatever the gate says; needs a reason.")
    require_approval: bool = Field(
        False, strict=True, description="Let it wait for an operator where the gate lets it pass."
    )
    reason: Reason | None = None


class PromotionResult(BaseModel):
    """What the gate said."""

    model_config = shown(
        {
            "model": "ease",
            "version": VERSION,
            "verdict": "passed",
            "reasons": ["NDCG@10 is better."],
            "report": {"verdict": "passed"},
        }
    )

    model: str
    version: str | None
    verdict: str | None = Field(description="`passed`, `refused`, `waiting` or `forced`.")
    reasons: list[str]
    report: dict[str, Any] | None = Field(description="The comparison, with its intervals and checks.")


class RollbackRequest(BaseModel):
    """Which slot gets back what it had before."""

    model_config = shown({"slot": "champion", "reason": "Complaints."}) | ConfigDict(extra="forbid")

    slot: str = Field("champion", pattern="^(champion|predictor)$")
    reason: Reason = "rolled back"


class ApprovalRequest(BaseModel):
    """Which of the versions that wait becomes champion."""

    model_config = shown({"version": VERSION, "reason": "Looked at it."}) | ConfigDict(extra="forbid")

    version: VersionName | None = Field(None, description="Default: the newest that waits.")
    reason: Reason = "approved"


class Deployed(BaseModel):
    """What a slot holds now."""

    model_config = shown(
        {
            "slot": "champion",
            "model": "ease",
            "version": VERSION,
            "bundle": BUNDLE,
            "deployed_by": "operator",
            "reason": "Complaints.",
            "created_at": "2026-11-22T10:15:00Z",
        }
    ) | ConfigDict(from_attributes=True)

    slot: str
    model: str
    version: str | None
    bundle: str
    deployed_by: str
    reason: str
    created_at: datetime
