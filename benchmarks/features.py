"""
Feature snapshots: seconds and memory for 1,000,000 interactions and more.

    python benchmarks/features.py [--rows 1000000 25000000]

The baseline of the ratio is a single grouped count per user over the same table (polars).
"""

import argparse
import resource
import time

import numpy as np
import polars as pl
import pyarrow as pa

from marquee.data import Catalog, Event, Interactions
from marquee.features.snapshot import DAY, build

N_ITEMS, AS_OF = 60_000, 20_000 * DAY


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    rng = np.random.default_rng(0)
    genres = np.array([f"genre {i}" for i in range(19)])
    catalog = Catalog(
        pa.table(
            {
                "item_id": np.arange(1, N_ITEMS + 1),
                "title": [f"Film {i}" for i in range(N_ITEMS)],
                "genres": [
                    list(rng.choice(genres, rng.integers(1, 4), replace=False)) for _ in range(N_ITEMS)
                ],
                "runtime_minutes": pa.array(rng.integers(60, 200, N_ITEMS), pa.int32()),
            }
        )
    )
    for rows in parser.parse_args().rows:
        users = max(rows // 150, 1)
        table = Interactions.of(
            rng.integers(1, users + 1, rows),
            np.minimum(rng.zipf(1.3, rows), N_ITEMS),
            AS_OF - rng.integers(1, 700 * DAY, rows),
            events=rng.choice([Event.WATCH, Event.RATE], rows),
            ratings=rng.integers(1, 21, rows) / 2,
            watch_seconds=rng.integers(0, 9_000, rows),
        ).to_arrow()
        started = time.perf_counter()
        pl.DataFrame(table).group_by("user_id").len()
        count = time.perf_counter() - started
        started = time.perf_counter()
        build(table, catalog, AS_OF)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{rows:>11,} interactions: {seconds:6.2f} s ({seconds / count:5.0f} × one grouped count), "
            f"peak memory of the process {peak:,.0f} MiB"
        )


if __name__ == "__main__":
    main()
