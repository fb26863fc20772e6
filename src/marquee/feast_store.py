"""
Feast behind `features/port`: definitions, historical joins in DuckDB, look-ups online.

Feast's offline store reads the Parquet files that Marquee has written; its registry, and its online store
unless that is a server, are files under `MARQUEE_HOME`. What Feast answers is taken by name, because the
order of its answers differs between processes. Feast itself is imported where it is used: without the extra
everything else works.
"""

import importlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url

from marquee.config import Settings
from marquee.data.schema import Ids, Index, Microseconds
from marquee.errors import ConfigError, NotFoundError, StoreUnavailableError
from marquee.features.port import AS_OF, AT, VIEWS, ItemMatrix, Row, newest_rows, user_row

if TYPE_CHECKING:
    import feast

__all__ = ["FeastFeatures", "join_as_of", "require_feast"]

PROJECT: Final = "marquee"
MOMENT_COLUMN: Final = "event_timestamp"
ONLINE_SCHEMA: Final = "feast"
"""Schema of PostgreSQL that Feast has for itself."""
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
OF_USERS: Final = ("users", "user_genres")


class FeastFeatures:
    """
    The feature store `feast`; see `FeatureStore`.

    Args:
        settings: which online store, and the home.
        database_url: of Marquee's own database, for an online store without a URL of its own.

    Raises:
        ConfigError: Feast is not installed.
    """

    def __init__(self, settings: Settings, database_url: str | None = None) -> None:
        require_feast()
        from feast import FeatureStore

        folder = settings.paths.feast
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._store = FeatureStore(config=_config(folder, _online(settings, folder, database_url)))

    def apply(self, files: Mapping[str, Path]) -> list[str]:
        """
        Register the views, in place of what was registered.

        Args:
            files: view → Parquet file of its table, as `view_tables` makes them.

        Returns:
            What is registered.
        """
        _apply(self._store, {view: (VIEWS[view], path) for view, path in files.items()})
        return sorted(view.name for view in self._store.list_feature_views())

    def materialize(self, as_of: datetime, *, gone: Ids | None = None) -> None:
        """
        Put the newest features of every view into the online store.

        Args:
            as_of: moment of the newest.
            gone: users that were there before and are erased; theirs are overwritten with nothing.

        Raises:
            StoreUnavailableError: the online store cannot be reached.
        """
        with _quiet(), _reachable():
            self._store.materialize(BEGINNING, as_of)
            if gone is not None and len(gone):
                self._overwrite(gone, as_of)

    def join(self, view: str, entities: pa.Table) -> pa.Table:
        """See `FeatureStore`."""
        return _joined(self._store, self._view(view), entities, VIEWS[view])

    def user(self, user_id: int) -> Row | None:
        """See `FeatureStore`; one look-up."""
        names = self._names
        asked = [f"{view}:{name}" for view in OF_USERS for name in names[view]]
        with _reachable():
            answer = self._store.get_online_features(
                asked, [{"user_id": user_id}], full_feature_names=True
            ).to_dict()
        found = {view: {name: answer[f"{view}__{name}"][0] for name in names[view]} for view in OF_USERS}
        if not found["users"]["n_events"]:
            return None
        genres = {name: [] if value is None else list(value) for name, value in found["user_genres"].items()}
        return user_row({"user_id": user_id, **found["users"]}, genres)

    def items(self) -> ItemMatrix:
        """See `FeatureStore`; from the offline store, since it is read whole and once."""
        return ItemMatrix.of(newest_rows(pq.read_table(self._view("items").batch_source.path), "item_id"))

    def close(self) -> None:
        """See `FeatureStore`; what Feast itself closes are stores of other kinds."""
        connection = getattr(self._store._get_provider().online_store, "_conn", None)
        if connection is not None:
            connection.close()

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        return {view: [field.name for field in self._view(view).features] for view in OF_USERS}

    def _view(self, name: str) -> "feast.FeatureView":
        from feast.errors import FeatureViewNotFoundException

        try:
            return self._store.get_feature_view(name)
        except FeatureViewNotFoundException:
            raise NotFoundError(
                f"The view {name} is not in Feast yet.", fix="Run: marquee features materialize"
            ) from None

    def _overwrite(self, gone: Ids, as_of: datetime) -> None:
        import pandas as pd

        for view in OF_USERS:
            schema = pq.read_schema(self._view(view).batch_source.path)
            nothing = {field.name: _nothing(field.type, len(gone)) for field in schema}
            nothing["user_id"] = pa.array(gone)
            nothing[AS_OF] = pa.array([as_of] * len(gone), schema.field(AS_OF).type)
            frame: pd.DataFrame = pa.table(nothing, schema=schema).to_pandas()
            self._store.write_to_online_store(view, frame)


def join_as_of(features: pa.Table, entities: pa.Table, key: str) -> pa.Table:
    """
    The `HistoricalJoin` of Feast, through a registry that lives as long as the call.

    Raises:
        ConfigError: Feast is not installed.
    """
    require_feast()
    from feast import FeatureStore

    with tempfile.TemporaryDirectory(prefix="marquee-feast-") as name:
        folder = Path(name)
        path = folder / "features.parquet"
        pq.write_table(features, path)
        store = FeatureStore(config=_config(folder, {"type": "sqlite", "path": str(folder / "online.db")}))
        _apply(store, {"features": (key, path)})
        return _joined(store, store.get_feature_view("features"), entities, key)


def require_feast() -> None:
    """
    Check that the extra is installed, and import it.

    Raises:
        ConfigError: it is not.
    """
    if find_spec("feast") is None:
        raise ConfigError(
            "Feast is not installed.",
            fix="Run: pip install 'marquee-recsys[feast]' (in a checkout: make setup-feast); without "
            "it leave MARQUEE_FEATURES__STORE unset.",
        )
    before = os.environ.get(METRICS_FOLDER)
    importlib.import_module("feast")
    if before is None:  # Feast names a folder for its servers, which would take ours, too
        os.environ.pop(METRICS_FOLDER, None)


def _config(folder: Path, online: Mapping[str, Any]) -> "feast.RepoConfig":
    from feast import RepoConfig

    return RepoConfig(
        project=PROJECT,
        provider="local",
        registry={"path": str(folder / "registry.db"), "cache_ttl_seconds": 60},
        offline_store={"type": "duckdb"},
        online_store=dict(online),
        entity_key_serialization_version=3,
        repo_path=folder,
    )


def _online(settings: Settings, folder: Path, database_url: str | None) -> dict[str, Any]:
    """The online store as Feast is told of it."""
    wanted = settings.features
    given = None if wanted.online_url is None else wanted.online_url.get_secret_value()
    if wanted.online == "sqlite":
        return {"type": "sqlite", "path": str(folder / "online.db")}
    if wanted.online == "redis":
        url = make_url(given or "redis://127.0.0.1:6379")
        options = {"db": url.database or "0", "username": url.username, "password": url.password}
        options["ssl"] = "True" if url.drivername == "rediss" else None
        parts = [f"{url.host}:{url.port or 6379}", *(f"{k}={v}" for k, v in options.items() if v is not None)]
        # Else it keeps rows of the same second as they are, those of erased users among them.
        return {"type": "redis", "connection_string": ",".join(parts), "skip_dedup": True}
    own = settings.database.url
    url_of_server = given or database_url or (None if own is None else own.get_secret_value())
    if url_of_server is None:
        raise ConfigError(
            "MARQUEE_FEATURES__ONLINE is postgresql, and no database is known.",
            fix="Set MARQUEE_FEATURES__ONLINE_URL.",
        )
    server = {
        name: str(value) for name, value in conninfo_to_dict(url_of_server).items() if value is not None
    }
    return {
        "type": "postgres",
        "host": server.get("host", "127.0.0.1"),
        "port": int(server.get("port", "5432")),
        "database": server.get("dbname", "postgres"),
        "user": server.get("user", "postgres"),
        "password": server.get("password", os.environ.get("PGPASSWORD", "")),
        "sslmode": server.get("sslmode", "prefer"),
        "db_schema": ONLINE_SCHEMA,
    }


def _apply(store: "feast.FeatureStore", views: Mapping[str, tuple[str, Path]]) -> None:
    from feast import Entity, FeatureView, Field, FileSource, ValueType

    keys = {key: Entity(name=key, join_keys=[key], value_type=ValueType.INT64) for key, _ in views.values()}
    made = [
        FeatureView(
            name=view,
            entities=[keys[key]],
            schema=[
                Field(name=field.name, dtype=_type(field.type))
                for field in pq.read_schema(path)
                if field.name != AS_OF
            ],
            source=FileSource(name=view, path=str(path), timestamp_field=AS_OF),
            ttl=None,  # features are as old as they are: their age is a metric
        )
        for view, (key, path) in views.items()
    ]
    with _quiet(), _reachable():
        store.apply([*keys.values(), *made])


def _type(kind: pa.DataType) -> Any:
    from feast import types

    if pa.types.is_list(kind):
        return types.Array(_type(kind.value_type))
    known = {
        pa.int32(): types.Int32,
        pa.int64(): types.Int64,
        pa.float32(): types.Float32,
        pa.float64(): types.Float64,
        pa.string(): types.String,
    }
    return known[kind]


def _nothing(kind: pa.DataType, n: int) -> pa.Array:
    """What is told of nobody; Feast does not write rows that are null."""
    if pa.types.is_list(kind):
        return pa.array([[]] * n, kind)
    return pa.array([0] * n, kind) if pa.types.is_integer(kind) else pa.nulls(n, kind)


def _joined(store: "feast.FeatureStore", view: "feast.FeatureView", entities: pa.Table, key: str) -> pa.Table:
    """Each pair of key and moment is asked for once, and given to all rows that have it."""
    import pandas as pd

    schema = pq.read_schema(view.batch_source.path)
    names = [name for name in schema.names if name not in (key, AS_OF)]
    wanted = pa.schema([schema.field(name) for name in names])
    keys, at = entities[key].to_numpy(), entities[AT].cast(pa.int64()).to_numpy()
    first, pair = _distinct(keys, at)
    if not len(first):
        return wanted.empty_table()
    frame = pd.DataFrame(
        {
            key: keys[first],
            MOMENT_COLUMN: pd.to_datetime(at[first], unit="us", utc=True).as_unit("us"),
            "pair": np.arange(len(first)),
        }
    )
    with _quiet():
        found = store.get_historical_features(frame, [f"{view.name}:{name}" for name in names]).to_arrow()
    place = np.argsort(found["pair"].to_numpy())  # Feast gives rows in any order
    return found.select(names).cast(wanted).take(pa.array(place[pair]))


def _distinct(keys: Ids, at: Microseconds) -> tuple[Index, Index]:
    """A row of each pair of key and moment, and the number of the pair of each row."""
    order = np.lexsort((at, keys))
    keys, at = keys[order], at[order]
    new = np.ones(len(order), bool)
    new[1:] = (keys[1:] != keys[:-1]) | (at[1:] != at[:-1])
    pair = np.empty(len(order), np.int64)
    pair[order] = np.cumsum(new) - 1
    return order[new], pair


@contextmanager
def _quiet() -> Iterator[None]:
    """Feast tells of its progress on standard output, which is for answers, and its parts of their future."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextmanager
def _reachable() -> Iterator[None]:
    """Errors of servers as ours."""
    import psycopg

    kinds: tuple[type[Exception], ...] = (psycopg.OperationalError,)
    if find_spec("redis") is not None:
        import redis

        kinds = (*kinds, redis.ConnectionError)
    try:
        yield
    except kinds as error:
        raise StoreUnavailableError(
            f"The online store of Feast cannot be reached: {' '.join(str(error).split())}",
            fix="Check MARQUEE_FEATURES__ONLINE_URL and the server.",
        ) from error
