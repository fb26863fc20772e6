"""
The feature store: what a request waits for, and a historical join of 1,000,000 rows, built in and by Feast.

    python benchmarks/feature_store.py [--rows 1000000] [--items 10000] [--users 20000]

It continues in .venv-feast where that is (`make setup-feast`); without Feast it measures the built-in store
alone. All ratios are of figures of the same run.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from marquee.config import Settings
from marquee.data import Catalog, Event, Interactions
from marquee.features.port import AT, BuiltinFeatures, FeatureStore, moments, view_tables
from marquee.features.snapshot import DAY, build

FEAST_PYTHON = Path(__file__).parents[1] / ".venv-feast" / "bin" / "python"
ASKED = 100


def main() -> None:
    """Print one figure a line."""
    if find_spec("feast") is None and FEAST_PYTHON.exists():
        os.execv(FEAST_PYTHON, [str(FEAST_PYTHON), *sys.argv])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the historical join")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=20_000)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    tables, as_of = _tables(rng, chosen.items, chosen.users)
    entities = pa.table(
        {
            "item_id": rng.integers(1, chosen.items + 1, chosen.rows),
            AT: pa.array(rng.integers(4_000 * DAY, 4_200 * DAY, chosen.rows), pa.timestamp("us", "UTC")),
        }
    )
    builtin = BuiltinFeatures(tables)
    own = _measured("built in", builtin, rng, chosen.users)
    matrix = builtin.items()
    wanted = [rng.integers(1, chosen.items + 1, ASKED) for _ in range(1_000)]
    gather = _median(lambda number: matrix.rows(wanted[number]), 1_000)
    print(f"{ASKED} items from the matrix in the process: {gather * 1e3:.4f} ms")
    joined, seconds = _joined("built in", builtin, entities)
    if find_spec("feast") is None:
        print("Feast is not installed: run `make setup-feast`.")
        return
    from marquee.feast_store import FeastFeatures

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = FeastFeatures(Settings(home=folder / "home"))
        files = {view: folder / f"{view}.parquet" for view in tables}
        for view, table in tables.items():
            pq.write_table(table, files[view])
        store.apply(files)
        started = time.perf_counter()
        store.materialize(as_of)
        print(f"loading SQLite by Feast: {time.perf_counter() - started:.1f} s")
        others = _measured("Feast, SQLite", store, rng, chosen.users)
        print(f"user look-up, Feast / built in: {others / own:.0f} ×")
        names = [f"items:{name}" for name in matrix.names]
        asked = _median(
            lambda number: store._store.get_online_features(
                names, [{"item_id": int(item)} for item in wanted[number]]
            ).to_dict(),
            50,
        )
        print(f"{ASKED} items by a look-up of Feast: {asked * 1e3:.2f} ms")
        print(f"{ASKED} items, Feast / matrix in the process: {asked / gather:.0f} ×")
        of_feast, other_seconds = _joined("Feast, DuckDB", store, entities)
        print(f"historical join, Feast / built in: {other_seconds / seconds:.1f} ×")
        print(f"equal row by row: {of_feast.equals(joined)}")


def _tables(rng: np.random.Generator, n_items: int, n_users: int) -> tuple[dict[str, pa.Table], datetime]:
    """Views of a million events at eight moments."""
    n = 1_000_000
    genres = np.array([f"genre {number}" for number in range(19)])
    catalog = Catalog(
        pa.table(
            {
                "item_id": np.arange(1, n_items + 1),
                "title": [f"Film {number}" for number in range(n_items)],
                "genres": [list(rng.choice(genres, 2, replace=False)) for _ in range(n_items)],
                "runtime_minutes": pa.array([100] * n_items, pa.int32()),
            }
        )
    )
    rows = Interactions.of(
        rng.integers(1, n_users + 1, n),
        np.minimum(rng.zipf(1.3, n), n_items),
        rng.integers(4_000 * DAY, 4_200 * DAY, n),
        events=rng.choice([Event.WATCH, Event.RATE], n),
        ratings=rng.integers(1, 21, n) / 2,
    )
    at = moments(rows, 8)
    taken = [build(rows.to_arrow(), catalog, at[0])]
    for moment in at[1:]:
        taken.append(taken[-1].advance(rows.to_arrow(), catalog, moment))
    return view_tables(taken), datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at[-1])


def _measured(name: str, store: FeatureStore, rng: np.random.Generator, n_users: int) -> float:
    users = rng.integers(1, n_users + 1, 300).tolist()
    store.user(users[0])
    seconds = _median(lambda number: store.user(users[number]), 300)
    print(f"one user, {name}: {seconds * 1e3:.3f} ms")
    return seconds


def _joined(name: str, store: FeatureStore, entities: pa.Table) -> tuple[pa.Table, float]:
    started = time.perf_counter()
    made = store.join("items", entities)
    seconds = time.perf_counter() - started
    print(f"historical join of {len(entities):,} rows, {name}: {seconds:.2f} s")
    return made, seconds


def _median(work: Callable[[int], object], times: int) -> float:
    taken = []
    for number in range(times):
        started = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
