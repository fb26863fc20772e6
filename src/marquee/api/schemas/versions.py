"""Bodies about one version of a model."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from marquee.api.schemas.models import MODEL, ModelVersion
from marquee.api.schemas.service import shown

__all__ = ["Curve", "ModelDetails", "PastDeployment"]


class Curve(BaseModel):
    """What a training reported of one metric as it went on."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    steps: list[int] = Field(description="Epochs or iterations, from 1.")
    values: list[float] = Field(description="At those steps.")


class PastDeployment(BaseModel):
    """One deployment of a version."""

    model_config = ConfigDict(from_attributes=True)

    slot: str
    created_at: datetime
    deployed_by: str
    reason: str


class ModelDetails(ModelVersion):
    """A trained model, with how it came about."""

    model_config = shown(
        {
            **MODEL,
            "report": {"verdict": "passed"},
            "curves": [{"name": "train_loss", "steps": [1, 2], "values": [3.9, 3.1]}],
            "parameters": {"ridge": 250.0},
            "snapshot": "snapshots/8d1c0a.json",
            "code_version": "0.2.0",
            "deployments": [
                {
                    "slot": "champion",
                    "created_at": "2026-11-22T10:20:00Z",
                    "deployed_by": "api:operator",
                    "reason": "It is better.",
                }
            ],
        }
    ) | ConfigDict(from_attributes=True)

    report: dict[str, Any] | None = Field(description="Of the gate, the last time it was asked.")
    curves: list[Curve] | None = Field(description="Null of a bundle that has none with it.")
    parameters: dict[str, Any] = Field(description="Hyper-parameters that it was trained with.")
    snapshot: str | None = Field(description="The data that it was trained on.")
    code_version: str | None = Field(description="Of Marquee, that trained it.")
    deployments: list[PastDeployment] = Field(description="Newest first.")
