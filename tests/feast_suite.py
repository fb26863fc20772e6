"""What needs Feast: `test_feast_store.py` runs this module in .venv-feast."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from free_ports import free_port
from prometheus_client import REGISTRY
from typer.testing import CliRunner
from waiting import until

from marquee import feast_store
from marquee.cli import app
from marquee.config import Settings
from marquee.data import Catalog, Event, Interactions
from marquee.errors import NotFoundError, StoreUnavailableError
from marquee.feast_store import FeastFeatures
from marquee.features.port import (
    AS_OF,
    AT,
    VIEWS,
    BuiltinFeatures,
    join_as_of,
    moments,
    training_rows,
    view_tables,
)
from marquee.features.snapshot import DAY, build
from marquee.pipelines import state
from marquee.pipelines.run import run_here
from marquee.recommend.two_stage import LinearStack, TwoStage, TwoStageConfig
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments
from marquee.store.repositories.interactions import load_interactions
from marquee.store.repositories.items import upsert_items
from marquee.testing import planted_tastes

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Feast's parts
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

UTC_MICROSECONDS = pa.timestamp("us", "UTC")
CATALOG = Catalog(
    pa.table(
        {
            "item_id": np.arange(1, 11),
            "title": [f"Film {i}" for i in range(10)],
            "genres": [["Drama"] if i % 2 else ["Comedy", "Western"] for i in range(10)],
            "keywords": [[] if i % 3 else ["sea"] for i in range(10)],
            "runtime_minutes": pa.array([100] * 10, pa.int32()),
            "release_date": pa.array([None if i == 4 else i * 400 for i in range(10)], pa.date32()),
        }
    )
)


def history(seed: int = 0, n: int = 200) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions.of(
        rng.integers(1, 9, n),
        rng.integers(1, 13, n),  # some are in no catalogue
        rng.integers(4_000 * DAY, 4_100 * DAY, n),
        events=rng.choice([Event.WATCH, Event.RATE, Event.HIDE], n),
        ratings=np.where(rng.random(n) < 0.5, rng.integers(0, 21, n) / 2, np.nan),
    ).sorted()


def tables_of(rows: Interactions, at: list[int]) -> dict[str, pa.Table]:
    taken = [build(rows.to_arrow(), CATALOG, at[0])]
    for moment in at[1:]:
        taken.append(taken[-1].advance(rows.to_arrow(), CATALOG, moment))
    return view_tables(taken)


def moment_of(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)


def write(tables: dict[str, pa.Table], folder: Path) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    for view, table in tables.items():
        pq.write_table(table, folder / f"{view}.parquet")
    return {view: folder / f"{view}.parquet" for view in tables}


def rows_of(table: pa.Table) -> list[str]:
    """Rows to compare; NaN equals itself."""
    return [repr(row) for row in table.to_pylist()]


Kept = tuple[FeastFeatures, BuiltinFeatures]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """The same features in Feast, online in SQLite, and built in."""
    folder = tmp_path_factory.mktemp("feast")
    rows = history()
    at = moments(rows, 5)
    tables = tables_of(rows, at)
    kept = FeastFeatures(Settings(home=folder / "home"))
    assert kept.apply(write(tables, folder / "offline")) == sorted(VIEWS)
    kept.materialize(moment_of(at[-1]))
    return kept, BuiltinFeatures(tables)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Seoul"])
def test_training_rows_equal_the_built_in_join_row_by_row(
    both: Kept, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        rows = history()
        of_feast, built_in = (training_rows(store, rows) for store in both)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len(of_feast) == len(rows)
    assert of_feast.schema.names == built_in.schema.names
    assert of_feast.schema.types == built_in.schema.types
    assert rows_of(of_feast) == rows_of(built_in)


def test_events_at_or_after_a_row_change_nothing_of_it(tmp_path: Path) -> None:
    rows = history(3)
    cut = int(rows.timestamps[120])
    at = [moment for moment in moments(rows, 5) if moment > rows.timestamps[0]]
    asked = rows.take(rows.timestamps <= cut)
    joined = []
    for name, known in (("honest", rows.before(cut)), ("leaky", rows)):
        store = FeastFeatures(Settings(home=tmp_path / name))
        store.apply(write(tables_of(known, at), tmp_path / f"{name}-offline"))
        joined.append(rows_of(training_rows(store, asked)))
    assert joined[0] == joined[1]


@pytest.mark.parametrize("n_entities", [0, 1, 300])
def test_join_keeps_rows_without_features_repeated_rows_and_their_order(n_entities: int) -> None:
    rng = np.random.default_rng(n_entities)
    versions = np.unique(rng.integers(0, 20, (100, 2)), axis=0)
    features = pa.table(
        {
            "item_id": versions[:, 0],
            AS_OF: pa.array(versions[:, 1] * 1_000_000_000 + 1, UTC_MICROSECONDS),
            "value": rng.random(len(versions)).astype(np.float32),
        }
    )
    at = pa.array(
        rng.integers(0, 21, n_entities) * 1_000_000_000 + rng.integers(0, 3, n_entities), UTC_MICROSECONDS
    )
    entities = pa.table({"item_id": rng.integers(0, 25, n_entities), AT: at})
    of_feast = feast_store.join_as_of(features, entities, "item_id")
    built_in = join_as_of(features, entities, "item_id")
    assert of_feast.schema == built_in.schema
    assert of_feast.to_pylist() == built_in.to_pylist()
    if n_entities > 1:
        assert 0 < built_in["value"].null_count < n_entities


def test_ranker_learns_from_the_same_rows_and_so_becomes_the_same() -> None:
    tastes = planted_tastes()
    small = TwoStageConfig(
        sources=("ease", "popularity"), depth=5, windows=3, window_share=0.1, trees=5, min_pairs=20
    )
    for kind in (TwoStage, LinearStack):
        joined: list[pa.Table] = []

        def counting(
            features: pa.Table, entities: pa.Table, key: str, kept: list[pa.Table] = joined
        ) -> pa.Table:
            of_feast = feast_store.join_as_of(features, entities, key)
            assert of_feast.equals(join_as_of(features, entities, key))
            kept.append(of_feast)
            return of_feast

        built_in = kind(small).fit(tastes.interactions, tastes.catalog)
        of_feast = kind(small).fit(tastes.interactions, tastes.catalog, join=counting)
        assert len(joined) == 3
        expected = built_in.state().arrays
        found = of_feast.state().arrays
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_online_rows_equal_the_built_in_ones(both: Kept) -> None:
    of_feast, built_in = both
    for user_id in range(1, 9):
        assert repr(sorted(of_feast.user(user_id).items())) == repr(sorted(built_in.user(user_id).items()))
    assert of_feast.user(999) is None
    np.testing.assert_array_equal(of_feast.items().rows([3, 999, 12]), built_in.items().rows([3, 999, 12]))


def test_answers_do_not_depend_on_the_order_of_a_process(both: Kept, tmp_path: Path) -> None:
    rows = history()
    home = Settings(home=tmp_path / "home")
    kept = FeastFeatures(home)
    tables = tables_of(rows, moments(rows, 2))
    kept.apply(write(tables, tmp_path / "offline"))
    kept.materialize(moment_of(moments(rows, 2)[-1]))
    program = (
        "import sys, pathlib\n"
        "from marquee.config import Settings\n"
        "from marquee.feast_store import FeastFeatures\n"
        "found = FeastFeatures(Settings(home=pathlib.Path(sys.argv[1]))).user(3)\n"
        "print(sorted(found.items()))\n"
    )
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(home.home)],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    expected = BuiltinFeatures(tables).user(3)
    assert expected is not None
    assert said == f"{sorted(expected.items())}\n"
    assert repr(sorted(kept.user(3).items())) == repr(sorted(expected.items()))


@pytest.mark.integration
@pytest.mark.parametrize("server", ["own", "another"])
def test_features_are_online_in_postgresql(
    server: str, settings: Settings, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    rows = history()
    at = moments(rows, 2)
    wanted: dict[str, Any] = {"store": "feast", "online": "postgresql"}
    if server == "another":
        url = request.getfixturevalue("server_url")
        name = f"feast_{uuid4().hex}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        wanted["online_url"] = url.removesuffix("postgres") + name
    assert settings.database.url is not None
    chosen = Settings(home=settings.home, database=settings.database, features=wanted)
    kept = FeastFeatures(chosen, settings.database.url.get_secret_value())
    tables = tables_of(rows, at)
    kept.apply(write(tables, tmp_path / "offline"))
    kept.materialize(moment_of(at[-1]))
    expected = BuiltinFeatures(tables)
    assert repr(sorted(kept.user(3).items())) == repr(sorted(expected.user(3).items()))
    assert kept.user(999) is None
    assert not (settings.home / "feast" / "online.db").exists()
    kept.materialize(moment_of(at[-1]), gone=np.array([3]))
    assert kept.user(3) is None
    assert kept.user(4) is not None
    where = wanted.get("online_url") or settings.database.url.get_secret_value()
    with psycopg.connect(where) as connection:
        [[schemas]] = connection.execute(
            "SELECT array_agg(DISTINCT schemaname) FROM pg_tables WHERE tablename LIKE 'marquee_user%'"
        ).fetchall()
    assert schemas == ["feast"]
    kept.close()


@pytest.fixture
def redis_url(tmp_path: Path, missing: Callable[[str], None]) -> Iterator[str]:
    """A Redis server of its own, with a password."""
    found = shutil.which("redis-server")
    if found is None:
        missing("redis-server")
    port = free_port()
    options = [
        "--port",
        port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--requirepass",
        "s3cret-pass",
        "--dir",
        tmp_path,
    ]
    with subprocess.Popen([str(found), *map(str, options)], stdout=subprocess.DEVNULL) as server:
        try:
            until(lambda: is_listening(port), process=server)
            yield f"redis://:s3cret-pass@127.0.0.1:{port}/0"
        finally:
            server.terminate()


def is_listening(port: int) -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.integration
def test_features_are_online_in_redis(redis_url: str, tmp_path: Path) -> None:
    rows = history()
    at = moments(rows, 2)
    online = {"store": "feast", "online": "redis", "online_url": redis_url}
    kept = FeastFeatures(Settings(home=tmp_path / "home", features=online))
    tables = tables_of(rows, at)
    kept.apply(write(tables, tmp_path / "offline"))
    kept.materialize(moment_of(at[-1]))
    assert repr(sorted(kept.user(3).items())) == repr(sorted(BuiltinFeatures(tables).user(3).items()))
    assert kept.user(999) is None
    kept.materialize(moment_of(at[-1]), gone=np.array([3]))
    assert kept.user(3) is None
    kept.close()


@pytest.mark.parametrize("online", ["postgresql", "redis"])
def test_online_store_that_is_away_is_named_and_to_be_tried_again(online: str, tmp_path: Path) -> None:
    rows = history()
    at = moments(rows, 1)
    url = f"{online}://someone:s3cret-pass@127.0.0.1:1/0"
    settings = Settings(
        home=tmp_path / "home", features={"store": "feast", "online": online, "online_url": url}
    )
    kept = FeastFeatures(settings)
    with pytest.raises(StoreUnavailableError, match="online store of Feast") as caught:
        kept.apply(write(tables_of(rows, at), tmp_path / "offline"))
        kept.materialize(moment_of(at[-1]))
    assert "s3cret-pass" not in str(caught.value)


def test_view_that_is_not_registered_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="marquee features materialize"):
        FeastFeatures(Settings(home=tmp_path / "home")).user(1)


def test_importing_the_package_imports_no_feast() -> None:
    program = (
        "import importlib, pkgutil, sys, marquee\n"
        "for found in pkgutil.walk_packages(marquee.__path__, 'marquee.'):\n"
        "    if found.name.rpartition('.')[2] not in ('__main__', '_sasrec_torch', 'env'):\n"
        "        importlib.import_module(found.name)\n"
        "assert 'marquee.feast_store' in sys.modules\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'feast']\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


@pytest.fixture
def home(settings: Settings, database: Database, tmp_path: Path) -> Callable[[str], Settings]:
    """A database with planted tastes, and settings with the feature store of a name."""
    tastes = planted_tastes()
    with database.begin() as connection:
        upsert_items(connection, tastes.catalog.table, source="test")
    with database.begin() as connection:
        keys = [[str(row) for row in range(len(tastes.interactions))]]
        rows = tastes.interactions.to_arrow().append_column("event_key", keys)
        load_interactions(connection, rows, source="test", kind="imported")
    return lambda store: Settings(
        home=settings.home,
        database=settings.database,
        features={"store": store},
        mlflow={"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"},
    )


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:::mlflow.*")
@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("mlp", {"max_epochs": 2, "hidden": [8]}),
        ("linear_stack", {"sources": ["ease", "popularity"], "windows": 2}),
    ],
)
def test_training_through_feast_makes_the_same_model(
    model: str, config: dict[str, Any], home: Callable[[str], Settings], database: Database
) -> None:
    made = {}
    for store in ("builtin", "feast"):
        settings = home(store)
        run_here(settings, database, ObjectStore.of(settings), "train", {"model": model, "config": config})
        with database.begin() as connection:
            made[store] = deployments.current(connection, "challenger")
    objects = ObjectStore.of(home("builtin"))
    manifests = [json.loads(objects.get(made[store].bundle)) for store in made]
    assert manifests[0]["files"] == manifests[1]["files"]


@pytest.mark.integration
def test_features_are_renewed_read_and_watched(
    home: Callable[[str], Settings], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, began = home("feast"), datetime.now(UTC)
    counts = run_here(settings, database, ObjectStore.of(settings), "prepare", {"source": "none"})
    newest = datetime.fromisoformat(counts["features_as_of"])
    assert newest == moment_of(int(planted_tastes().interactions.timestamps.max()) + 1)
    with database.begin() as connection:
        state.tell(connection)
    for view in VIEWS:
        told = REGISTRY.get_sample_value("marquee_features_newest_timestamp_seconds", {"view": view})
        assert began.timestamp() <= told <= time.time()  # and not when the last event happened, long ago
    monkeypatch.setenv("MARQUEE_HOME", str(settings.home))
    monkeypatch.setenv("MARQUEE_DATABASE__URL", database.url)
    user = int(planted_tastes().interactions.user_ids[0])
    said = {}
    for store in ("feast", "builtin"):
        monkeypatch.setenv("MARQUEE_FEATURES__STORE", store)
        ended = CliRunner().invoke(
            app, ["features", "get", "--user", str(user), "--json"], catch_exceptions=False
        )
        said[store] = json.loads(ended.stdout)
    assert said["feast"] == said["builtin"]
    assert said["feast"]["n_events"] > 0
    ended = CliRunner().invoke(app, ["features", "apply", "--json"], catch_exceptions=False)
    assert json.loads(ended.stdout) == {"views": sorted(VIEWS)}
