"""The API: its composition root, how errors are answered, and what it says of itself."""

import asyncio
import contextlib
import platform
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware

from marquee import __version__
from marquee.api import (
    catalog,
    drills,
    events,
    experiments,
    inspection,
    models,
    monitoring,
    operations,
    ops,
    overview,
    people,
    predictor,
    profiles,
    recommendations,
    session,
    versions,
)
from marquee.api.access import Access
from marquee.api.deps import Services, ServicesDep
from marquee.api.edge import Edge
from marquee.api.engine import Engine
from marquee.api.hot import HotRoutes
from marquee.api.limits import Overload
from marquee.api.listener import Listener
from marquee.api.openapi import complete
from marquee.api.problems import http_problem, invalid_problem, problem_response
from marquee.api.proxies import BelowPrefix
from marquee.api.schemas.service import Health, Info, Message
from marquee.api.site import Site
from marquee.api.slots import Slots
from marquee.api.users import UserStates
from marquee.api.writer import EventWriter, Journal
from marquee.config import Settings, load_settings
from marquee.errors import MarqueeError, StoreError, StoreUnavailableError
from marquee.jobs import Queue
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import items

__all__ = ["create_app"]

NOTICES: Final = ["This product uses the TMDB API but is not endorsed or certified by TMDB."]

HOT: Final = (*predictor.HOT, *recommendations.HOT, *events.HOT)

DESCRIPTION: Final = """
Movie recommendations that learn from every click.

Errors are `application/problem+json` (RFC 9457): `type` is stable, `fix` says what to do next. Each answer
carries an `X-Request-ID`, yours if you send one.
"""

TAGS: Final = [
    {"name": "recommendations", "description": "What to watch."},
    {"name": "events", "description": "What users did, stored before it is acknowledged."},
    {"name": "catalogue", "description": "The films: search, facts, and what editors write."},
    {"name": "people", "description": "What is known of a person: shown, handed over, erased."},
    {"name": "pipelines", "description": "Bring in data, train, compute everyone's recommendations."},
    {"name": "users", "description": "Who a visitor is."},
    {"name": "models", "description": "Versions of models: what serves, promote, roll back."},
    {"name": "experiments", "description": "Canaries and comparisons on live traffic."},
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
    access, overload = Access(chosen), Overload(chosen.api.max_concurrent)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _open(chosen, access) as services:
            app.state.services = services
            with _traced(edge, services):
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
        # A redirect would name the Host and the scheme of the request: behind a proxy that ends TLS, a client
        # would send its key once more, in the clear.
        redirect_slashes=False,
        # It would look for its providers at each request; traces are a setting of Marquee's own.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.access, app.state.overload = access, overload
    app.state.site = app.router.default = Site(chosen, app.router.default)
    app.add_exception_handler(MarqueeError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.include_router(predictor.router)
    app.include_router(events.router)
    app.include_router(recommendations.router)
    app.include_router(catalog.router)
    app.include_router(people.router)
    app.include_router(session.router)
    app.include_router(operations.router)
    app.include_router(drills.router)
    app.include_router(models.router)
    app.include_router(versions.router)
    app.include_router(profiles.router)
    app.include_router(experiments.router)
    app.include_router(overview.router)
    app.include_router(monitoring.router)
    app.include_router(inspection.router)
    if chosen.api.ops_port is None:
        app.include_router(ops.router)
    app.add_api_route("/", root, response_model=Message, tags=["service"], summary="A greeting")
    app.add_api_route("/health", health, tags=["service"], summary="Whether the service is well")
    app.add_api_route("/info", info, tags=["service"], summary="What runs here")
    generated = app.openapi
    app.openapi = lambda: complete(generated())  # type: ignore[method-assign]
    # Around the framework's own layers and not, as `add_middleware` would have it, within them: a hot
    # request passes none of those. The outermost of them, which answers what nobody caught, is left out.
    framework = app.build_middleware_stack()
    assert isinstance(framework, ServerErrorMiddleware)
    hot = HotRoutes(BelowPrefix(framework.app), HOT)
    app.middleware_stack = edge = Edge(hot, settings=chosen, access=access, overload=overload)
    return app


async def root(request: Request, response: Response) -> Message | Response:
    """Says that the service runs; a browser gets the site."""
    response.headers["vary"] = "accept"
    page: Response | None = await request.app.state.site.page(request.scope)
    return page or Message(message="Marquee is running. See /docs.")


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
async def _open(settings: Settings, access: Access) -> AsyncIterator[Services]:
    """The composition root: everything that the API uses, for as long as it runs."""
    database = Database.open(settings, prepare=False)
    try:
        days = settings.retention.files_days
        unused = timedelta(days=days) if days else None
        slots = Slots(ObjectStore.of(settings), settings.paths.bundles, unused=unused)
        listener = Listener(database, silence_seconds=settings.api.database_seconds)
        users = UserStates(
            database,
            listener,
            int(settings.api.user_cache_mib * 2**20),
            silence_seconds=settings.api.database_seconds,
        )
        journal = Journal(database)
        engine = Engine(slots, users, journal, settings.api)
        writer = EventWriter(
            database, settings.api.group_commit_ms / 1000, silence_seconds=settings.api.database_seconds
        )
        services = Services(
            settings, database, Queue(), slots, listener, users, journal, engine, access, writer
        )
        try:
            await asyncio.to_thread(services.prepare)
        except StoreUnavailableError:
            if database.server is not None:
                raise  # it is ours: without it nothing will ever be there
            await slots.restore()
        else:
            await services.stock()
        await services.probe()
        listener.on("marquee_keys", access.keys.changed)
        listener.on_gap(access.keys.changed)
        await access.keys.refresh(services.run)
        tasks = [
            asyncio.create_task(access.keys.refresh_for_ever(services.run), name="keys"),
            asyncio.create_task(services.probe_for_ever(), name="probe"),
            asyncio.create_task(services.stock_for_ever(), name="stock"),
            asyncio.create_task(listener.run(), name="listener"),
            asyncio.create_task(journal.run(), name="journal"),
        ]
        try:
            if services.database_is_up:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(listener.until_connected(), settings.api.database_seconds)
            yield services
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await services.latest.aclose()
            engine.close()
            slots.close()
            await writer.aclose()
            await users.aclose()
            await journal.aclose()
            with contextlib.suppress(StoreError):  # known to the minute is what was promised
                await access.keys.record_use(services.run)
    finally:
        await database.aclose()


@contextlib.contextmanager
def _traced(edge: Edge, services: Services) -> Iterator[None]:
    """Where traces are on, put what makes them around the parts; else nothing of it is loaded."""
    if services.settings.trace.url is None:
        yield
        return
    from marquee.api.tracing import traced

    with traced(edge, services):
        yield


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
