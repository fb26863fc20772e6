"""Settings of the work behind the service, and of what is told of it."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

__all__ = ["LogSettings", "WorkerSettings"]


class LogSettings(BaseModel):
    """Logs, written to standard error by commands and to standard output by servers."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level written.")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )


class WorkerSettings(BaseModel):
    """The process that runs pipelines."""

    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(1, description="Pipelines run at a time.")
    stalled_seconds: Annotated[int, Field(ge=2, le=600)] = Field(
        10, description="A run whose worker has been silent this long is taken up again."
    )
