"""
How long a look at 10,000,000 interactions takes: the first, one after 1 % more came in, and one without news.

The rows are those of the field: most are older than any window, the newest are of today, and answers were
given all the time. Memory is the peak of a process of its own that looks for the first time.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from marquee.config import LogSettings, Settings
from marquee.monitoring.watch import Look, look
from marquee.store.embedded import EmbeddedServer
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.telemetry import configure_logs

N_ITEMS = 20_000
ITEMS = """
INSERT INTO items (item_id, title, source, genres, release_date)
SELECT i, 'Film ' || i, 'log', ARRAY[(ARRAY['Drama', 'Comedy', 'Horror', 'Romance', 'Action'])[1 + i % 5]],
    date '2000-01-01' + i % 9000
FROM generate_series(1, {items}) AS i
"""
ROWS = """
INSERT INTO interactions
    (user_id, item_id, event, rating, watch_seconds, occurred_at, ingested_at, source, event_key)
SELECT 1 + (random() * {users})::bigint, 1 + (power(random(), 3) * {last_item})::bigint,
    (ARRAY['watch', 'rate', 'click', 'like'])[1 + (random() * 3)::int],
    CASE WHEN random() < 0.4 THEN (random() * 20)::int / 2.0 END,
    CASE WHEN random() < 0.6 THEN (random() * 7200)::int END,
    at, at, 'live', '{prefix}' || i
FROM (
    SELECT i, now() - interval '{days} days' * (1 - i::float8 / {rows}) AS at
    FROM generate_series(1, {rows}) AS i
) AS moments
"""
ANSWERS = """
INSERT INTO impressions (request_id, served_at, user_id, item_ids, scores, bundle, surface, tier, duration_ms)
SELECT gen_random_uuid(), now() - interval '45 days' * random(), 1 + (random() * {users})::bigint,
    ARRAY(SELECT 1 + (power(random(), 3) * {last_item})::bigint FROM generate_series(1, 10 + (i * 0)::int)),
    ARRAY(SELECT random()::real FROM generate_series(1, 10)), 'bundles/a', 'recommendations', 'personal', 5
FROM generate_series(1, {answers}) AS i
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--answers", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configure_logs(LogSettings(level="error"))
    if arguments.child:
        child(*arguments.child)
        return
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), arguments.rows, arguments.answers, arguments.rounds)


def measure(home: Path, rows: int, answers: int, rounds: int) -> None:
    """Everything, in a home."""
    settings = Settings(home=home)
    with EmbeddedServer.start(settings.paths), Database.open(settings) as database:
        users = rows // 100
        fill(database, ITEMS.format(items=N_ITEMS))
        fill(database, ANSWERS.format(users=users, last_item=N_ITEMS - 1, answers=answers))
        more = {"users": users, "last_item": N_ITEMS - 1}
        fill(database, ROWS.format(rows=rows, days=700, prefix="a", **more))
        peak = subprocess.run(
            [sys.executable, __file__, "--child", database.url, str(home)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        incremental, quiet = [], []
        for number in range(rounds):
            fill(database, ROWS.format(rows=rows // 100, days=7, prefix=f"b{number}-", **more))
            seconds, found = timed(settings, database)
            incremental.append(seconds)
            counted = found.collected.events
            quiet.append(timed(settings, database)[0])
    print(f"{'first look':<36}{float(peak[0]):8.2f} s  {int(peak[1]):,} events counted")
    print(f"{'peak memory of it':<36}{float(peak[2]):8.0f} MB")
    print(f"{'look without news':<36}{statistics.median(quiet):8.2f} s")
    seconds = statistics.median(incremental)
    verdict = "ok" if seconds <= 5 else "MISSED"
    print(f"{'look after 1 % more':<36}{seconds:8.2f} s  {counted:,} events counted  ≤ 5  {verdict}")


def timed(settings: Settings, database: Database) -> tuple[float, Look]:
    """The time of a look, and what it has shown."""
    began = time.perf_counter()
    found = look(settings, database, ObjectStore(settings.home / "objects"), datetime.now(UTC))
    return time.perf_counter() - began, found


def child(url: str, home: str) -> None:
    """A look in a process of its own: seconds, events, megabytes."""
    settings = Settings(home=Path(home), database={"url": url})
    with Database.open(settings, prepare=False) as database:
        seconds, found = timed(settings, database)
    # Not `getrusage`: that begins with the peak of the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(seconds, found.collected.events, peak * 1024 / 1e6)


def fill(database: Database, statement: str) -> None:
    """Rows as they are in the field, seen by all and counted."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(statement)
        connection.execute("VACUUM ANALYZE interactions")


if __name__ == "__main__":
    main()
