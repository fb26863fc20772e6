"""A small trained predictor, and the real application on a fresh database."""

import asyncio
import contextlib
import io
import json
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from fastapi import FastAPI

from marquee.api.app import create_app
from marquee.api.deps import Services
from marquee.config import LogSettings, Settings
from marquee.data import Catalog, Interactions
from marquee.models.base import Recommender
from marquee.models.mlp import Mlp, MlpConfig
from marquee.models.popularity import Popularity
from marquee.pipelines import PIPELINES
from marquee.pipelines.worker import run_worker
from marquee.recommend import SimilarItems
from marquee.simulate import Audience, AudienceConfig
from marquee.store import bundles
from marquee.store.bundles import BundleRef
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, items
from marquee.telemetry import configure_logs

Deploy = Callable[..., BundleRef]
Running = Callable[[Settings], AbstractAsyncContextManager[tuple[httpx.AsyncClient, FastAPI]]]

N_ITEMS = 60
PIPELINES_SOURCE = """
from marquee.errors import DataError


def succeed(context):
    context.progress("count", 1, 2)
    return {"rows": 3}


def refuse(context):
    reasons = ["It is no better."]
    return {"model": "ease", "version": "1", "verdict": "refused", "reasons": reasons, "report": {}}


def fail(context):
    raise DataError("There are no interactions.", fix="Ingest some.")
"""
FIRST_ID = 27205
WITHOUT_POSTER = FIRST_ID


@dataclass(frozen=True)
class Trained:
    """What there is to deploy, made once."""

    catalog: Catalog
    interactions: Interactions
    mlp: Mlp
    other_mlp: Mlp
    popularity: Popularity


@pytest.fixture(scope="session")
def trained() -> Trained:
    ids = np.arange(FIRST_ID, FIRST_ID + N_ITEMS)
    posters = [None if i == WITHOUT_POSTER else f"/poster{i}.jpg" for i in ids]
    genres = ["Drama", "Comedy", "Action", "Horror"]
    catalog = Catalog(
        pa.table(
            {
                "item_id": ids,
                "title": [f"Film {i}" for i in ids],
                "overview": [f"What happens in {i}." for i in ids],
                "poster_path": pa.array(posters, pa.string()),
                "genres": [[genres[i % 4]] for i in range(N_ITEMS)],
                "runtime_minutes": pa.array(80 + np.arange(N_ITEMS), pa.int32()),
            }
        )
    )
    popularity = np.linspace(1, 100, N_ITEMS, dtype=np.float32)
    audience = Audience(catalog, popularity, AudienceConfig(users=60, seed=1))
    interactions = audience.simulate().interactions
    known = dict(zip(ids.tolist(), popularity.tolist(), strict=True))

    def mlp(seed: int) -> Mlp:
        config = MlpConfig(seed=seed, hidden=(32, 32), max_epochs=8)
        return Mlp(config).fit(interactions, catalog, item_popularity=known)

    return Trained(catalog, interactions, mlp(0), mlp(1), Popularity().fit(interactions, catalog))


@pytest.fixture(scope="session")
def publish(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Recommender, Path], BundleRef]:
    """Put the bundle of a model into an object directory; it is made once and copied."""
    store = ObjectStore(tmp_path_factory.mktemp("objects"))
    published: dict[int, BundleRef] = {}
    similar = SimilarItems.fit(trained.interactions, trained.catalog)

    def copy(model: Recommender, objects: Path) -> BundleRef:
        if id(model) not in published:
            published[id(model)] = bundles.publish(
                store,
                model.state(),
                model=model.name,
                cards=trained.catalog.table,
                metrics={},
                snapshot="none",
                code_version="test",
                similar=similar,
            )
        ref = published[id(model)]
        folder = Path(ref.key).parent
        shutil.copytree(store.root / folder, objects / folder, dirs_exist_ok=True)
        return ref

    return copy


@pytest.fixture
def deploy(
    database: Database, settings: Settings, publish: Callable[[Recommender, Path], BundleRef]
) -> Deploy:
    """Put a model in slots."""

    def put(model: Recommender, *slots: deployments.Slot) -> BundleRef:
        ref = publish(model, settings.paths.objects)
        with database.begin() as connection:
            for slot in slots:
                deployments.append(
                    connection,
                    slot,
                    bundle=ref.key,
                    digest=ref.digest,
                    model=ref.model,
                    version=ref.version,
                    deployed_by="test",
                    reason="test",
                )
        return ref

    return put


@pytest.fixture
def catalogue(database: Database, trained: Trained) -> None:
    with database.begin() as connection:
        items.upsert_items(connection, trained.catalog.table, source="test")


@pytest.fixture
def deployed(catalogue: None, deploy: Deploy, trained: Trained) -> BundleRef:
    """A predictor and a champion in their slots, and the catalogue in the database."""
    return deploy(trained.mlp, "predictor", "champion")


@pytest.fixture(scope="session")
def running() -> Running:
    """Run the real application: `async with running(settings) as (client, app)`."""
    return _running


@contextlib.asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            yield client, app


@pytest.fixture
async def application(
    settings: Settings, running: Running
) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    """The real application on whatever the fixtures before it have deployed."""
    async with running(settings) as pair:
        yield pair


@pytest.fixture
def client(application: tuple[httpx.AsyncClient, FastAPI]) -> httpx.AsyncClient:
    return application[0]


@pytest.fixture
def services(application: tuple[httpx.AsyncClient, FastAPI]) -> Services:
    found = application[1].state.services
    assert isinstance(found, Services)
    return found


@pytest.fixture
async def worker(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Start the real worker with small pipelines; `worker(train="fail")` makes one of them fail."""
    (tmp_path / "api_test_pipelines.py").write_text(PIPELINES_SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    stop = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def start(**functions: str) -> None:
        names = ("prepare", "train", "promote", "infer", "backup", "forget", "backfill", "drill", "monitor")
        chosen = dict.fromkeys(names, "succeed")
        chosen |= functions
        pipelines = {name: f"api_test_pipelines:{function}" for name, function in chosen.items()}
        pipelines["pipeline"] = PIPELINES["pipeline"]
        tasks.append(asyncio.create_task(run_worker(settings, stop, pipelines=pipelines)))

    yield start
    stop.set()
    await asyncio.gather(*tasks)


@pytest.fixture
def json_logs() -> Callable[[], list[dict[str, Any]]]:
    """Read what was logged, as the API logs it to a file."""
    stream = io.StringIO()
    configure_logs(LogSettings(format="json", level="debug"), stream=stream)

    def read() -> list[dict[str, Any]]:
        for handler in logging.getLogger().handlers:
            handler.flush()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return read
