"""Bodies of sessions."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from marquee.api.schemas.service import shown

__all__ = ["PlayRequest", "SessionState", "Visitor"]


class PlayRequest(BaseModel):
    """Whom to play, in demo mode."""

    model_config = shown({"user_id": 42}) | ConfigDict(extra="forbid")

    user_id: Annotated[int, Field(ge=0, lt=2**63, strict=True)] | None = Field(
        None, description="A virtual user; needs a service that runs with MARQUEE_DEMO=1."
    )


class Visitor(BaseModel):
    """Who the visitor is."""

    model_config = shown({"user_id": 4503599627370497})

    user_id: int = Field(description="What `/v1/users/{user_id}` and `POST /v1/events` take.")


class SessionState(BaseModel):
    """Who asks."""

    model_config = shown({"user_id": 4503599627370497, "role": "visitor", "demo": False})

    user_id: int | None = Field(description="That the cookie names; null without one.")
    role: Literal["anonymous", "visitor", "viewer", "service", "operator"]
    demo: bool = Field(description="Whether anybody may play a virtual user.")
