"""How the service is, for operators: its parts, what serves, and what came in of late."""

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from marquee.api.deps import Services, ServicesDep
from marquee.api.problems import InvalidRequestError, responses
from marquee.api.schemas.operations import (
    Errors,
    LatencyBody,
    Minute,
    Outcomes,
    OutcomeSeries,
    Overview,
    Part,
    ServedModel,
    TierShare,
)
from marquee.api.served import Served
from marquee.api.site import BUILT
from marquee.api.traffic import MINUTES
from marquee.errors import StoreError, StoreUnavailableError
from marquee.store.repositories.traffic import Traffic

__all__ = ["router"]

LOW_BYTES: Final = 512 * 2**20

router = APIRouter(tags=["service"])


@router.get("/v1/overview", summary="How the service is", response_model=Overview)
async def get_overview(services: ServicesDep) -> Overview:
    """Health of each part, what serves, and the traffic of the last hour; without a database, too."""
    found, silence, objects = await asyncio.gather(
        services.traffic.read(), _silence(services), asyncio.to_thread(_objects, services)
    )
    parts = [_database(services), _worker(services, silence), objects, *_models(services), _site()]
    lacks = services.lacks()
    is_well = not lacks and all(part.status == "ok" for part in parts if part.name != "site")
    return Overview(
        status="ok" if is_well else "degraded",
        lacks=lacks,
        parts=parts,
        champion=_served(services.slots.get("champion")),
        predictor=_served(services.slots.get("predictor")),
        **_traffic(found),
        window_minutes=MINUTES,
    )


@router.get(
    "/v1/outcomes",
    summary="What became of the answers",
    response_model=Outcomes,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def get_outcomes(
    services: ServicesDep,
    hours: Annotated[int, Query(ge=1, le=168, description="How far back.")] = 24,
) -> Outcomes:
    """Click rate, hit rate and watch share by arm over time, from a sample of the answers."""
    series = await services.run_long(_series, hours)
    return Outcomes(series=[OutcomeSeries.model_validate(each) for each in series])


def _series(connection: Connection, hours: int) -> list[Any]:
    from marquee.store.repositories import outcome_series  # statistics that serving starts without

    return list(outcome_series.read(connection, hours=hours))


def _traffic(found: Traffic | None) -> dict[str, Any]:
    """The figures; without a reading there is nothing to show."""
    requests = [] if found is None else [Minute(at=at, count=count) for at, count in found.requests]
    events = [] if found is None else [Minute(at=at, count=count) for at, count in found.events]
    tiers = {} if found is None else found.tiers
    answers = sum(tiers.values())
    errors = 0 if found is None else found.errors
    latency = None if found is None else found.latency
    return {
        "requests_per_minute": requests,
        "events_per_minute": events,
        "tiers": [
            TierShare(tier=tier, share=count / max(answers, 1), count=count)
            for tier, count in sorted(tiers.items(), key=lambda one: -one[1])
        ],
        "latency_ms": LatencyBody(
            p50=latency and latency.p50, p95=latency and latency.p95, p99=latency and latency.p99
        ),
        "errors": Errors(count=errors, share=errors / max(answers, 1)),
        "is_sampled": found is not None and found.share_read < 1,
    }


async def _silence(services: Services) -> float | None:
    """Seconds since a worker gave a sign of life; infinite where none did."""
    try:
        found = await services.run(services.queue.silence)
    except StoreError:
        return None
    return float("inf") if found is None else found


def _database(services: Services) -> Part:
    if services.database_is_up:
        return Part(name="database", status="ok", detail=services.database.address)
    return Part(name="database", status="down", detail=f"{services.database.address} does not answer")


def _worker(services: Services, silence: float | None) -> Part:
    if silence is None:
        return Part(name="worker", status="degraded", detail="unknown while the database is away")
    if silence == float("inf"):
        return Part(name="worker", status="down", detail="none runs: start `marquee worker`")
    if silence > services.settings.worker.stalled_seconds:
        said = f"silent for {timedelta(seconds=round(silence))}: start `marquee worker`"
        return Part(name="worker", status="down", detail=said)
    return Part(name="worker", status="ok", detail="alive")


def _objects(services: Services) -> Part:
    folder = services.settings.paths.objects
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Part(name="objects", status="down", detail=f"{folder}: {error.strerror}")
    said = f"{free / 2**30:.1f} GiB free"
    return Part(name="objects", status="ok" if free >= LOW_BYTES else "degraded", detail=said)


def _models(services: Services) -> list[Part]:
    made = []
    refused = services.slots.refused()
    for name in ("predictor", "champion"):
        served = services.slots.get(name)
        if name in refused:
            part = Part(name=name, status="degraded", detail="the newest bundle was refused")
        elif served is None:
            # Somebody stands in for a champion; nobody does for a predictor.
            status, said = ("degraded", "popular films") if name == "champion" else ("down", "nothing")
            part = Part(name=name, status=status, detail=f"none is deployed: {said} in its place")
        else:
            part = Part(name=name, status="ok", detail=served.name)
        made.append(part)
    return made


def _site() -> Part:
    if (BUILT / "index.html").is_file():
        return Part(name="site", status="ok", detail="built")
    return Part(name="site", status="down", detail="not built: run `make web`")


def _served(served: Served | None) -> ServedModel | None:
    if served is None:
        return None
    age = datetime.now(UTC) - served.deployment.created_at
    return ServedModel(bundle=served.name, model=served.deployment.model, age_seconds=age.total_seconds())
