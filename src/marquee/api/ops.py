"""For those who run the service: `/livez`, `/readyz`, `/metrics`, on the API's port or one of their own."""

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from marquee.api.deps import Services, ServicesDep
from marquee.api.problems import problem_response, responses
from marquee.api.schemas.ops import Alive, Readiness
from marquee.data.dataset import Histories
from marquee.errors import MarqueeError, NoChampionError
from marquee.telemetry import get_logger
from marquee.telemetry.metrics import Part

__all__ = ["ops_app", "router"]

INFERENCE_SECONDS: Final = 2.0

router = APIRouter(tags=["service"])


@router.get("/livez", summary="Whether the process runs")
async def livez() -> Alive:
    """Answers as long as the process does; a process that does not should be started again."""
    return Alive(status="alive")


@router.get(
    "/readyz",
    summary="Whether requests can be answered",
    response_model=Readiness,
    responses=responses(NoChampionError),
)
async def readyz(services: ServicesDep) -> Response:
    """
    Recommends to nobody in particular, with the model that serves, in this process.

    `degraded` names what it lacks. 503 only when it cannot recommend anything at all.
    """
    return Response((await _readiness(services)).model_dump_json(), media_type="application/json")


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """All metrics, of all processes on the port, as Prometheus reads them."""
    # Other processes' metrics lie in files: reading them must not keep requests waiting.
    return Response(await asyncio.to_thread(_exposition), media_type=CONTENT_TYPE_LATEST)


def ops_app(services: Services) -> Starlette:
    """The same three paths alone."""

    async def ready(_: Request) -> Response:
        try:
            return await readyz(services)
        except MarqueeError as error:
            return problem_response(error)

    async def alive(_: Request) -> Response:
        return Response((await livez()).model_dump_json(), media_type="application/json")

    async def exposition(_: Request) -> Response:
        return await metrics()

    return Starlette(routes=[Route("/livez", alive), Route("/readyz", ready), Route("/metrics", exposition)])


async def _readiness(services: Services) -> Readiness:
    """
    An inference by what serves, or by what would stand in for it.

    Raises:
        NoChampionError: nothing can recommend.
    """
    lacks = services.lacks()
    stand_in = services.slots.get("predictor")
    for served in dict.fromkeys(filter(None, (services.slots.champion(), stand_in))):
        started = time.perf_counter()
        try:
            async with asyncio.timeout(INFERENCE_SECONDS):
                ranked = await asyncio.to_thread(served.pipeline.recommend, Histories.of_items([]), 1)
        except Exception:  # whatever is wrong with a model, another may answer
            get_logger().exception("api.inference_failed", bundle=served.name)
            lacks = [*lacks, f"{served.name}: does not answer"]
            continue
        if ranked.qualified[0]:
            return Readiness(
                status="degraded" if lacks else "ready",
                lacks=lacks,
                bundle=served.name,
                inference_ms=round((time.perf_counter() - started) * 1000, 3),
            )
    raise NoChampionError(
        f"Nothing can be recommended. {'; '.join(lacks)}".strip(),
        fix="Run `marquee pipeline run`; `marquee rollback` if it was a promotion that broke it.",
    )


def _exposition() -> bytes:
    # The one variable that is not a setting: prometheus_client itself reads it, when it is imported.
    shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    registry = CollectorRegistry()
    if shared is None:
        registry.register(Part(REGISTRY, worker=False))
    else:
        registry.register(Part(MultiProcessCollector(None), worker=False))  # type: ignore[no-untyped-call]
        registry.register(_Processes(Path(shared)))
    return generate_latest(registry)


class _Processes(Collector):
    """Memory, processor time and files of each process on the port, by its id; there is no sum of all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """As for a single process, with a label more."""
        found: dict[str, Metric] = {}
        # A process that has ended leaves only what is added up over all that ever were.
        pids = {path.stem.rpartition("_")[2] for path in self._folder.glob("gauge_live*.db")}
        for pid in sorted(pids):
            for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                known = found.setdefault(metric.name, metric)
                samples = [sample._replace(labels={"pid": pid}) for sample in metric.samples]
                known.samples = samples if known is metric else [*known.samples, *samples]
        return found.values()
