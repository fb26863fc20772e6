"""The API: its composition root, how errors are answered, and what it says of itself."""

import asyncio
import contextlib
import platform
from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from marquee import __version__
from marquee.api import operations, recommendations
from marquee.api import schemas as bodies
from marquee.api.deps import Services, ServicesDep
from marquee.api.edge import Edge
from marquee.api.problems import http_problem, invalid_problem, problem_response
from marquee.api.schemas.service import Health, Info, Message, Problem
from marquee.api.slots import Slots
from marquee.config import Settings, load_settings
from marquee.errors import MarqueeError, StoreError
from marquee.jobs import Queue
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import items

__all__ = ["create_app"]

NOTICES: Final = ["This product uses the TMDB API but is not endorsed or certified by TMDB."]

DESCRIPTION: Final = """
Movie recommendations that learn from every click.

Errors are `application/problem+json` (RFC 9457): `type` is stable, `fix` says what to do next. Each answer
carries an `X-Request-ID`, yours if you send one.
"""

TAGS: Final = [
    {"name": "recommendations", "description": "What to watch."},
    {"name": "pipelines", "description": "Bring in data, train, compute everyone's recommendations."},
    {"name": "runs", "description": "What pipelines do and did."},
    {"name": "service", "description": "Whether the service is well, and what runs."},
]


def create_app(settings: Settings | None = None) -> FastAPI:
    """
    The ASGI application; its lifespan opens what it needs and closes it again.

    Args:
        settings: default: from the environment.
    """
    chosen = settings if settings is not None else load_settings()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _open(chosen) as services:
            app.state.services = services
            yield

    # The pages of /docs and /redoc come with their scripts: they work without a network.
    app: FastAPI = FastAPIOffline(
        title="Marquee",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        static_url="/docs-assets",
    )
    app.add_middleware(Edge)
    app.add_exception_handler(MarqueeError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.include_router(recommendations.router)
    app.include_router(operations.router)
    app.add_api_route("/", root, tags=["service"], summary="A greeting")
    app.add_api_route("/health", health, tags=["service"], summary="Whether the service is well")
    app.add_api_route("/info", info, tags=["service"], summary="What runs here")
    generated = app.openapi
    app.openapi = lambda: _completed(generated())  # type: ignore[method-assign]
    return app


async def root() -> Message:
    """Says that the service runs."""
    return Message(message="Marquee is running. See /docs.")


async def health(services: ServicesDep) -> Health:
    """
    From what the service knows of itself: asking costs nothing, and nothing is asked of the database.

    `degraded` names what it lacks; the answer is 200 as long as the process answers at all.
    """
    lacks = services.lacks()
    return Health(
        status="degraded" if lacks else "ok",
        database="ok" if services.database_is_up else "unreachable",
        lacks=lacks,
        **services.slots.names(),
    )


async def info(services: ServicesDep) -> Info:
    """Version, models and the notices of the data."""
    try:
        films: int | None = sum((await services.run(items.count)).values())
    except StoreError:
        films = None
    return Info(
        service="marquee",
        version=__version__,
        python=platform.python_version(),
        models=services.slots.names(),
        items=films,
        notices=NOTICES,
    )


@contextlib.asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Services]:
    """The composition root: everything that the API uses, for as long as it runs."""
    database = Database.open(settings)
    try:
        slots = Slots(ObjectStore(settings.paths.objects), settings.paths.bundles)
        services = Services(settings, database, Queue.open(database), slots)
        await services.probe()
        probing = asyncio.create_task(services.probe_for_ever(), name="probe")
        try:
            yield services
        finally:
            probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probing
    finally:
        await database.aclose()


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with what FastAPI does not put there: the problems, and an example per body."""
    schemas = document["components"]["schemas"]
    if "Problem" in schemas:
        return document  # FastAPI hands out the same document again
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"), Problem=problem)
    shown = bodies.examples()
    for name, schema in schemas.items():
        if "examples" in schema and name in shown:  # FastAPI has dropped their nulls
            schema["examples"] = shown[name]
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            body = part.get("content", {}).get("application/json")
            if body is not None:
                name = body["schema"]["$ref"].rpartition("/")[2]
                body["example"] = schemas[name]["examples"][0]
    return document


def _operation_id(route: APIRoute) -> str:
    return route.name


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, MarqueeError)
    return problem_response(error)


async def _answer_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return invalid_problem(error.errors())


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return http_problem(
        error.status_code, method=request.method, path=request.url.path, headers=error.headers
    )
