"""Whatever is killed in the middle of a pipeline, the tables end as those of an undisturbed run."""

import contextlib
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg
import pytest
from sqlalchemy import MetaData, Table, select

from marquee.config import Settings
from marquee.jobs import Queue
from marquee.pipelines.run import run_here
from marquee.store import bundles
from marquee.store.embedded import EmbeddedServer
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, runs

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
]

DEADLINE_SECONDS = 1500
STEPS: Mapping[str, Mapping[str, Any]] = {
    "prepare": {"source": "sample"},
    "train": {"model": "mlp", "config": {"max_epochs": 4, "hidden": [32, 32]}},
    "promote": {"force": True, "reason": "a network so small would not win"},
    "infer": {"k": 5},
}
ELSEWHEN = {
    "bundle",
    "deployment_id",
    "digest",
    "gate_report",
    "generation",
    "interaction_id",
    "reason",
    "run_id",
    "version",
}
"""Columns that say when and by which run a row came, or how long it took: no two runs agree on them."""
SLOTS: Mapping[str, Sequence[deployments.Slot]] = {
    "train": ("challenger", "predictor"),
    "promote": ("champion",),
}
"""What each pipeline fills."""
GATE = {"min_accuracy": 0.0, "max_cross_entropy": 100.0, "max_latency_ms": 10_000.0}
"""Four epochs make no good predictor."""

PIPELINES = textwrap.dedent(
    '''
    """The real pipelines, killed on the way: once at each point that DEATHS names, in that order."""

    import importlib
    import json
    import os
    import signal

    from marquee.pipelines import PIPELINES
    from marquee.pipelines.run import find_pipeline


    def _dying(name):
        def run(context):
            journal = context.settings.home / "deaths"
            died = len(journal.read_text().split()) if journal.exists() else 0
            points = json.loads(os.environ["DEATHS"])
            if died < len(points):
                _arm(context, journal, *points[died])
            return find_pipeline(name)(context)

        return run


    def _arm(context, journal, victim, place, count):
        calls = 0

        def die_when_due():
            nonlocal calls
            calls += 1
            if calls == count:
                with journal.open("a") as file:
                    file.write("x ")
                if victim == "worker":
                    os.kill(os.getppid(), signal.SIGKILL)
                    signal.pause()  # until this process notices that it has no worker
                os.kill(os.getpid(), signal.SIGKILL)

        kind, _, rest = place.partition(" ")
        if kind == "reporting":
            context.on_progress = lambda step, done, total: step == rest and die_when_due()
            return
        module, _, path = rest.partition(":")
        *parents, attribute = path.split(".")
        owner = importlib.import_module(module)
        for parent in parents:
            owner = getattr(owner, parent)
        real = getattr(owner, attribute)

        def wrapped(*args, **kwargs):
            if kind == "before":
                die_when_due()
            result = real(*args, **kwargs)
            if kind == "after":
                die_when_due()
            return result

        setattr(owner, attribute, wrapped)


    for _name in PIPELINES:
        globals()[_name] = _dying(_name)
    '''
)
WORKER = textwrap.dedent(
    """
    import asyncio, sys
    from marquee.config import load_settings
    from marquee.pipelines import PIPELINES
    from marquee.pipelines.worker import run_worker
    sys.path.insert(0, sys.argv[1])
    asyncio.run(run_worker(load_settings(), pipelines={name: f"marquee_dying:{name}" for name in PIPELINES}))
    """
)
BEFORE_THE_END = "before marquee.store.repositories.runs:finish"


class Home:
    """A home with a database of its own."""

    def __init__(self, folder: Path, url: str, mlflow: str) -> None:
        folder.mkdir(parents=True)
        self.settings = Settings(
            home=folder,
            database={"url": url},
            audience={"users": 30},
            mlflow={"tracking_uri": mlflow},
            gate=GATE,
        )
        self.environment = {
            **os.environ,
            "MARQUEE_HOME": str(folder),
            "MARQUEE_DATABASE__URL": url,
            "MARQUEE_AUDIENCE__USERS": "30",
            "MARQUEE_MLFLOW__TRACKING_URI": mlflow,
            "MARQUEE_MONITOR__EVERY_MINUTES": "0",
            "MARQUEE_WORKER__STALLED_SECONDS": "2",
            **{f"MARQUEE_GATE__{name.upper()}": str(value) for name, value in GATE.items()},
        }
        self.objects = ObjectStore(self.settings.paths.objects)

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        with Database.open(self.settings) as database:
            yield database

    def run(self, pipeline: str) -> None:
        """Undisturbed, in this process."""
        with self.database() as database:
            run_here(self.settings, database, self.objects, pipeline, STEPS[pipeline])

    def run_killed(self, pipeline: str, points: Sequence[tuple[str, str, int]], modules: Path) -> runs.Run:
        """By workers one after the other, until the run has ended."""
        journal = self.settings.home / "deaths"
        journal.unlink(missing_ok=True)
        log = self.settings.home / "worker.log"
        with self.database() as database:
            with database.begin() as connection:
                run_id = Queue.open(database).submit(connection, pipeline, STEPS[pipeline]).run_id
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not (run := _read(database, run_id)).finished:
                with log.open("ab") as output:
                    worker = subprocess.Popen(
                        [sys.executable, "-c", WORKER, str(modules)],
                        env={**self.environment, "DEATHS": json.dumps(points)},
                        stdout=output,
                        stderr=output,
                    )
                try:
                    while worker.poll() is None and not _read(database, run_id).finished:
                        assert time.monotonic() < deadline, log.read_text()
                        time.sleep(0.05)
                finally:
                    worker.kill()
                    worker.wait()
        assert journal.read_text().split() == ["x"] * len(points), log.read_text()
        return run


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "marquee_dying.py").write_text(PIPELINES)
    return folder


@pytest.fixture(scope="module")
def homes(postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Home]]:
    """Two homes: what is killed on the one runs undisturbed on the other."""
    folder = tmp_path_factory.mktemp("repeat")
    made = []
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        names = [f"test_{uuid4().hex}" for _ in range(2)]
        for name in names:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template_marquee STRATEGY file_copy")
            made.append(Home(folder / name, postgres.url_of(name), f"sqlite:///{folder / 'mlflow.db'}"))
        yield made[0], made[1]
        for name in names:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(
    ("pipeline", "points"),
    [
        (
            "prepare",
            [
                ("child", "reporting ingest sample", 1),
                ("child", "after marquee.store.repositories.interactions:load_interactions", 1),
                ("worker", "before marquee.store.objects:ObjectStore.put", 3),  # a part of the snapshot
                ("worker", BEFORE_THE_END, 1),
            ],
        ),
        (
            "train",
            [
                ("child", "reporting train: epoch", 3),
                ("child", "after marquee.store.bundles:publish", 1),
                ("worker", "after marquee.store.repositories.deployments:append", 1),  # one of two slots
                ("worker", BEFORE_THE_END, 1),
            ],
        ),
        (
            "promote",
            [
                ("child", "reporting compare", 2),
                ("worker", "after marquee.store.repositories.deployments:append", 1),
                ("worker", BEFORE_THE_END, 1),
            ],
        ),
        (
            "infer",
            [
                ("child", "reporting recommend", 1),
                ("worker", "after marquee.store.repositories.recommendations:replace_all", 1),
                ("worker", BEFORE_THE_END, 1),
            ],
        ),
    ],
)
def test_killed_pipeline_ends_in_the_tables_of_an_undisturbed_one(
    homes: tuple[Home, Home], modules: Path, pipeline: str, points: list[tuple[str, str, int]]
) -> None:
    undisturbed, killed = homes
    undisturbed.run(pipeline)
    run = killed.run_killed(pipeline, points, modules)
    assert (run.status, run.attempts, run.error) == ("succeeded", len(points) + 1, None)
    with undisturbed.database() as one, killed.database() as other:
        expected, found = contents(one), contents(other)
        assert found == expected
        assert any(expected.values())
        assert not list(killed.settings.paths.checkpoints.glob("*/*"))
        for slot in SLOTS.get(pipeline, ()):
            wanted, made = weights(undisturbed, one, slot), weights(killed, other, slot)
            assert wanted.keys() == made.keys()
            assert all(np.array_equal(wanted[name], made[name]) for name in wanted)


def contents(database: Database) -> dict[str, list[str]]:
    """All rows of all tables, without what tells one run from another."""
    schema = MetaData()
    schema.reflect(database.engine)
    found = {}
    with database.begin() as connection:
        for table in schema.sorted_tables:
            if table.name == "outbox":
                keys = connection.execute(select(table.c.object_key)).scalars()
                # The names of bundles, and what their manifests say, tell when they were made.
                found["outbox"] = sorted(re.sub(r"^bundles/.*/[0-9a-f]{64}", "bundles/", key) for key in keys)
            elif table.name not in {"runs", "run_logs", "alembic_version"}:
                columns = [column for column in table.columns if _tells_content(table, column.name)]
                rows = connection.execute(select(*columns)).all()
                found[table.name] = sorted(repr(tuple(row)) for row in rows)
    return found


def weights(home: Home, database: Database, slot: deployments.Slot) -> dict[str, Any]:
    with database.begin() as connection:
        deployed = deployments.current(connection, slot)
    assert deployed is not None
    bundle = bundles.load(home.objects, deployed.bundle, home.settings.paths.bundles)
    return dict(bundle.recommender().state().arrays)


def _tells_content(table: Table, column: str) -> bool:
    kept = {("interactions", "occurred_at")}
    return column not in ELSEWHEN and (not column.endswith("_at") or (table.name, column) in kept)


def _read(database: Database, run_id: UUID) -> runs.Run:
    with database.begin() as connection:
        return runs.get(connection, run_id)
