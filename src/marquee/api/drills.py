"""Runs of now and then, over HTTP: load old files again, rehearse a restore."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from marquee.api.deps import ServicesDep
from marquee.api.operations import RUN, How, answered, carry_out
from marquee.api.problems import InvalidRequestError
from marquee.api.schemas.service import RunResult, shown

__all__ = ["BackfillRequest", "router"]

BACKFILL: Final = "backfill"
DRILL: Final = "drill"


class BackfillRequest(BaseModel):
    """What came in between two moments; without a zone they are of UTC."""

    model_config = shown({"from": "2026-11-01", "to": "2026-11-08T12:00:00+09:00"}) | ConfigDict(
        extra="forbid"
    )

    after: datetime = Field(alias="from", description="From this moment on.")
    until: datetime = Field(alias="to", description="Until this moment.")


router = APIRouter()


@router.post("/run/backfill", summary="Load old files again", **RUN)
async def run_backfill(
    request: Request, services: ServicesDep, wanted: Annotated[BackfillRequest, Body()], how: How
) -> Response:
    """Load the raw files that came in between two moments again; what is there already adds nothing."""
    after, until = _aware(wanted.after), _aware(wanted.until)
    if after >= until:
        raise InvalidRequestError(
            f"{after.isoformat()} is not before {until.isoformat()}.",
            field="body.to",
            fix="Send a later `to`.",
        )
    parameters: dict[str, Any] = {"after": after.isoformat(), "until": until.isoformat()}
    run = await carry_out(request, services, BACKFILL, parameters, how)
    return answered(run, lambda: RunResult(result="backfill finished"), how)


@router.post("/run/drill", summary="Rehearse a restore", **RUN)
async def run_drill(request: Request, services: ServicesDep, how: How) -> Response:
    """Restore the newest backup into a database of its own, and look whether all of it is there."""
    run = await carry_out(request, services, DRILL, {}, how)
    return answered(run, lambda: RunResult(result="drill finished"), how)


def _aware(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
