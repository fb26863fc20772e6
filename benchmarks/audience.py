"""
Speed, growth and memory of the virtual audience, on one core.

    OMP_NUM_THREADS=1 python benchmarks/audience.py [--quick] [--films 200]

Streams 10^5, 10^6 and 10^7 interactions (`--quick`: 10^4, 10^5, 10^6) in chunks of 100,000 rows, each
size in a fresh process for its peak memory, the fastest of three passes for its time.
"""

import argparse
import multiprocessing
import resource
import time

import numpy as np
import pyarrow as pa

from marquee.data import Catalog
from marquee.simulate import Audience, AudienceConfig

GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Comedy",
    "Crime",
    "Drama",
    "Family",
    "Fantasy",
    "Horror",
    "Romance",
)
DAYS_PER_DECADE = 3652
CHUNK_ROWS = 100_000
PASSES = 3


def catalogue(n_films: int) -> tuple[Catalog, np.ndarray]:
    """Films with one to three genres, four decades of dates and a heavy-tailed popularity."""
    random = np.random.default_rng(0)
    table = pa.table(
        {
            "item_id": np.arange(1, n_films + 1),
            "title": [f"Film {item}" for item in range(1, n_films + 1)],
            "release_date": pa.array(
                random.integers(4000, 4000 + 4 * DAYS_PER_DECADE, n_films), pa.int32()
            ).cast(pa.date32()),
            "runtime_minutes": random.integers(80, 180, n_films),
            "genres": [
                list(random.choice(GENRES, random.integers(1, 4), replace=False)) for _ in range(n_films)
            ],
        }
    )
    return Catalog(table), 20 * (1 + random.pareto(1.5, n_films))


def measure(n_interactions: int, n_films: int) -> tuple[int, float, float]:
    """Rows, seconds of processor time of the fastest pass, and peak memory of the process in MB."""
    config = AudienceConfig(users=max(1, round(n_interactions / AudienceConfig.interactions_per_user)))
    audience = Audience(*catalogue(n_films), config)
    best = np.inf
    for _ in range(PASSES):
        started = time.process_time()
        rows = sum(len(chunk) for chunk in audience.chunks(CHUNK_ROWS))
        best = min(best, time.process_time() - started)
    return rows, best, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a table, the growth exponent and the worst rate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of each size")
    parser.add_argument("--films", type=int, default=200, help="films of the catalogue")
    arguments = parser.parse_args()
    sizes = [10**power // (10 if arguments.quick else 1) for power in (5, 6, 7)]
    spawn = multiprocessing.get_context("spawn")
    measured = []
    for size in sizes:
        with spawn.Pool(1) as pool:
            measured.append(pool.apply(measure, (size, arguments.films)))
        rows, seconds, megabytes = measured[-1]
        print(f"{rows:>11,} interactions {seconds:8.3f} s  {rows / seconds:>12,.0f} /s  {megabytes:5.0f} MB")
    rows_log, seconds_log = np.log([row[0] for row in measured]), np.log([row[1] for row in measured])
    print(f"growth exponent {np.polyfit(rows_log, seconds_log, 1)[0]:.3f} (1 is linear)")
    print(f"peak memory, largest against smallest: {measured[-1][2] / measured[0][2]:.2f}")


if __name__ == "__main__":
    main()
