"""The real application with keys of every role, asked from another machine."""

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx
import psycopg
import pytest
import pytest_asyncio
from fastapi import FastAPI

from marquee.api.app import create_app
from marquee.config import LogSettings, Settings
from marquee.store.embedded import EmbeddedServer
from marquee.store.postgres import Database
from marquee.store.repositories import keys
from marquee.telemetry import configure_logs

ROLES = ("viewer", "service", "operator")
ELSEWHERE = "192.0.2.7"
SITE = "https://films.example"
OTHER_SITE = "https://app.films.example"
"""The one that may read answers."""
UNLIMITED = {"rate_per_key": "1000000/second", "rate_per_address": "1000000/second"}


@dataclass(frozen=True)
class World:
    """
    A running application, and what its callers show.

    Attributes:
        keys: of each role, and `revoked` and `garbage`.
    """

    app: FastAPI
    settings: Settings
    keys: dict[str, str]

    def client(self, address: str = ELSEWHERE, base_url: str = SITE) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(address, 50_000))
        return httpx.AsyncClient(transport=transport, base_url=base_url)

    def bearer(self, name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[name]}"}

    def cookie(self, user_id: int) -> dict[str, str]:
        return {"cookie": self.app.state.access.cookies.header_for(user_id, secure=True).partition(";")[0]}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running_world(
    postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_security TEMPLATE template_marquee STRATEGY file_copy")
    settings = Settings(
        home=tmp_path_factory.mktemp("home"),
        database={"url": postgres.url_of("test_security")},
        monitor={"every_minutes": 0},
        api={**UNLIMITED, "cors_origins": (OTHER_SITE,)},
    )
    with Database.open(settings) as database, database.begin() as connection:
        shown = {role: keys.create(connection, role, role)[1] for role in ROLES}
        shown["revoked"] = keys.create(connection, "revoked", "operator")[1]
        keys.revoke(connection, shown["revoked"].split("_")[1])
        shown["garbage"] = "mq_0123456789_nobody-ever-made-this-one"
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield World(app, settings, shown)


@pytest_asyncio.fixture(loop_scope="session")
async def world(running_world: World) -> World:
    """One application for all tests; those that change what others see start their own."""
    services = running_world.app.state.services
    async with asyncio.timeout(60):  # its loop stood still meanwhile: what timed out is done again
        while not (services.database_is_up and services.access.keys.readable):
            await asyncio.sleep(0.01)
    return running_world


@pytest.fixture
def asked(world: World) -> Callable[..., httpx.AsyncClient]:
    """A client from elsewhere, as an operator: `async with asked() as client`."""

    def make(name: str = "operator") -> httpx.AsyncClient:
        client = world.client()
        client.headers.update(world.bearer(name))
        return client

    return make


@pytest.fixture
def log_lines() -> Callable[[], str]:
    """Read the text that was logged, as the API logs it to a file."""
    stream = io.StringIO()
    configure_logs(LogSettings(format="json", level="debug"), stream=stream)

    def read() -> str:
        for handler in logging.getLogger().handlers:
            handler.flush()
        return stream.getvalue()

    return read
