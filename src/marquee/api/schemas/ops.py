"""Bodies for those who run the service."""

from typing import Literal

from pydantic import BaseModel, Field

from marquee.api.schemas.service import BUNDLE, shown

__all__ = ["Alive", "Readiness"]


class Alive(BaseModel):
    """The process runs."""

    model_config = shown({"status": "alive"})

    status: Literal["alive"]


class Readiness(BaseModel):
    """The process can recommend."""

    model_config = shown({"status": "ready", "lacks": [], "bundle": BUNDLE, "inference_ms": 1.2})

    status: Literal["ready", "degraded"]
    lacks: list[str] = Field(description="What makes it degraded.")
    bundle: str = Field(description="What recommended.")
    inference_ms: float
