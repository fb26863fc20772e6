"""Bodies about experiments: who is divided how, and what it has shown."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from marquee.api.schemas.models import VERSION, VersionName
from marquee.api.schemas.service import BUNDLE, shown

__all__ = [
    "ArmRequest",
    "ExperimentBody",
    "ExperimentList",
    "ExperimentRequest",
    "ExperimentSummary",
    "Shown",
    "StopRequest",
]

Text = StringConstraints(strip_whitespace=True, pattern=r"^[^\x00]*$")
Name = Annotated[str, Text, StringConstraints(min_length=1, max_length=200)]
Reason = Annotated[str, Text, StringConstraints(max_length=2_000), Field(description="Why, for the record.")]
Share = Annotated[float, Field(gt=0, lt=1, description="Of users.")]
Metric = Literal["hit_rate", "click_rate", "watch_share"]
Slice = Literal["all", "new", "history"]

ARM: dict[str, Any] = {
    "name": "champion",
    "share": 0.5,
    "model": "ease",
    "version": VERSION,
    "bundle": BUNDLE,
}
SUMMARY: dict[str, Any] = {
    "experiment_id": 3,
    "name": "new factors",
    "kind": "ab",
    "status": "running",
    "arms": [ARM, {**ARM, "name": "challenger", "model": "ials"}],
    "started_by": "api:operator",
    "reason": "Factors are smaller.",
    "started_at": "2026-11-22T10:15:00Z",
    "ended_at": None,
    "ended_because": None,
}
ESTIMATE: dict[str, Any] = {
    "metric": "hit_rate",
    "slice": "all",
    "value": 0.21,
    "low": 0.2,
    "high": 0.22,
    "users": 2100,
}
COMPARISON: dict[str, Any] = {
    "arm": "challenger",
    "metric": "hit_rate",
    "slice": "all",
    "value": 0.008,
    "low": -0.001,
    "high": 0.017,
    "always_low": -0.009,
    "always_high": 0.025,
    "verdict": "not decided yet",
}
SHOWN: dict[str, Any] = {
    "measured_at": "2026-11-22T11:15:00Z",
    "verdict": "not decided yet",
    "decides": "hit_rate",
    "arms": [
        {
            "name": name,
            "share": 0.5,
            "users": 2100,
            "answers": 8400,
            "errors": 0,
            "slow": 3,
            "p95_ms": 8.2,
            "error_rate": 0.0,
            "viewed": 7900,
            "metrics": [ESTIMATE],
        }
        for name in ("champion", "challenger")
    ],
    "comparisons": [COMPARISON],
    "sample_ratio": {"p_value": 0.63, "always_p_value": 1.0, "alarm": False},
}


class ArmRequest(BaseModel):
    """An arm to be."""

    model_config = shown({"version": "champion", "share": 0.5}) | ConfigDict(extra="forbid")

    version: VersionName = Field(description="A version, or the name of the slot that it is in.")
    share: Share
    name: Name | None = Field(None, description="Default: the version.")


class ExperimentRequest(BaseModel):
    """A canary (`share` of the users see `version`) or a comparison of `arms`."""

    model_config = shown(
        {
            "name": "new factors",
            "arms": [{"version": "champion", "share": 0.5}, {"version": "challenger", "share": 0.5}],
            "reason": "Factors are smaller.",
        },
        {"kind": "canary", "version": "challenger", "share": 0.05},
    ) | ConfigDict(extra="forbid")

    kind: Literal["ab", "canary"] = "ab"
    name: Name | None = Field(None, description="Of a comparison; a canary is named after its version.")
    arms: list[ArmRequest] = Field(
        [],
        max_length=10,
        description="Of a comparison; the first is what others are compared with, shares sum to 1.",
    )
    version: VersionName = Field("challenger", description="Of a canary: a version, or the slot it is in.")
    share: Share = Field(0.05, description="Of a canary: of users.")
    reason: Reason = ""

    @model_validator(mode="after")
    def _complete(self) -> "ExperimentRequest":
        if self.kind == "ab" and (self.name is None or len(self.arms) < 2):
            raise ValueError("a comparison needs a name and at least two arms")
        if self.kind == "canary" and self.arms:
            raise ValueError("a canary has a version and a share, no arms")
        return self


class StopRequest(BaseModel):
    """How to end an experiment."""

    model_config = shown({"promote": "challenger", "reason": "It is better."}) | ConfigDict(extra="forbid")

    promote: Name | None = Field(None, description="The arm whose model becomes the champion.")
    reason: Reason = ""


class ArmBody(BaseModel):
    """An arm."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    share: float
    model: str
    version: str | None
    bundle: str


class EstimateBody(BaseModel):
    """A metric of an arm, with its 95 % interval for a single look."""

    metric: Metric
    slice: Slice
    value: float | None
    low: float | None
    high: float | None
    users: int = Field(description="Behind it.")


class ArmShown(BaseModel):
    """What an arm has shown."""

    name: str
    share: float
    users: int
    answers: int
    errors: int = Field(description="Answers that another model had to give.")
    slow: int = Field(description="Answers slower than a canary may be.")
    p95_ms: float | None
    error_rate: float
    viewed: int = Field(description="Answers that came on screen, where the site reports it.")
    metrics: list[EstimateBody]


class ComparisonBody(BaseModel):
    """A metric of an arm against that of the first arm."""

    arm: str
    metric: Metric
    slice: Slice
    value: float | None = Field(description="The difference.")
    low: float | None = Field(description="Of its 95 % interval for a single look that was planned.")
    high: float | None
    always_low: float | None = Field(
        description="Of its 95 % interval for all looks together; null while there are too few users."
    )
    always_high: float | None
    verdict: Literal["better", "worse", "not decided yet"]


class SampleRatioBody(BaseModel):
    """Whether users are divided as planned."""

    p_value: float
    always_p_value: float
    alarm: bool = Field(description="They are not: believe none of the figures.")


class Shown(BaseModel):
    """What an experiment has shown."""

    model_config = shown(SHOWN)

    measured_at: datetime
    verdict: str
    decides: Metric = Field(description="The metric whose comparison over all users decides.")
    arms: list[ArmShown]
    comparisons: list[ComparisonBody]
    sample_ratio: SampleRatioBody


class ExperimentSummary(BaseModel):
    """An experiment."""

    model_config = shown(SUMMARY)

    experiment_id: int
    name: str
    kind: Literal["ab", "canary"]
    status: Literal["running", "stopped", "promoted", "rolled_back"]
    arms: list[ArmBody]
    started_by: str
    reason: str
    started_at: datetime
    ended_at: datetime | None
    ended_because: str | None


class ExperimentBody(ExperimentSummary):
    """An experiment, and what it has shown."""

    model_config = shown({**SUMMARY, "shown": SHOWN})

    shown: Shown | None = Field(description="Until now, or when it ended.")


class ExperimentList(BaseModel):
    """Experiments, newest first."""

    model_config = shown({"experiments": [SUMMARY]})

    experiments: list[ExperimentSummary]
