"""
Speed of the API: one core for the server, the other for `wrk` and PostgreSQL.

    python benchmarks/serving.py [--home DIR] [--only NAME,…] [--seconds 10] [--peers] [--soak N] [--plot PNG]

Each path is asked over 32 connections with a body or a user of its own each time, from 100,000 users with 50
events, on a catalogue of 10,000 items; no answer is kept, and each list is logged as in production. Before
the paths are measured every user has been asked for once, and the process may keep what it knows of all of
them (`MARQUEE_API__USER_CACHE_MIB`), as one that has run for a while; each path is then asked for `--warm-up`
seconds. With the default, a user who is not among the newest 30,000 or so costs a read more. Figures:

- the table: requests per second, p50 and p99 of `wrk --latency`, the share of a bare Starlette + orjson
  endpoint that answers ten cards, processor time of the server per answer, and what was logged of how many;
- `ready`, `memory`, `growth` (cost against history length and catalogue size), `swaps`, `rollback`, `fresh`
  (a prediction in the log that all processes show), `overload`: see `_serving_checks.py`;
- `--soak N`: memory over N requests of all kinds; `--peers`: the same perceptron behind other servers.

The deadline of a personal list is lifted to 10 s in the table: 32 connections that never pause are a queue,
and a list that waits in it is not to be answered by a cheaper one; that none was is printed. Everything else
is as set by default, apart from the rate limits. A prepared `--home` is used again; without one, all is made
anew in a temporary folder, which takes some minutes.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import _serving_checks as checks
from _serving_beside import PEERS, bare, measure_peer, shared_folder
from _serving_home import N_ITEMS, N_USERS, SMALL_VOCABULARY, Home, describe
from _serving_load import LOAD_CORE, Load, Outcome, Server, Wrk
from marquee.config import LogSettings, Settings
from marquee.store.postgres import Database
from marquee.store.repositories.deployments import Slot
from marquee.telemetry import configure_logs

DEADLINE_MS = "10000"
USER_CACHE_MIB = "320"
USERS = (1, N_USERS)
LISTS = Load("/v1/users/$user/recommendations?k=10", users=USERS)


@dataclass(frozen=True)
class Row:
    """
    One row of the table.

    Attributes:
        name: for `--only`.
        what: the path in words.
        load: what is asked.
        deployed: (slot, bundle) that must answer.
        precomputed: whether everybody has a list of the batch; None: it plays no part.
        at_least, p99: requests per second and milliseconds to reach.
        logged: the table and the column that tell answers apart, for what must be there afterwards.
    """

    name: str
    what: str
    load: Load
    deployed: tuple[Slot, str]
    at_least: float
    p99: float
    precomputed: bool | None = None
    logged: tuple[str, str, str] | None = None


def predict(vocabulary: int) -> Load:
    """Viewings of any user, of films of a vocabulary."""
    return Load(
        "/predict",
        """string.format('{"user_id":%d,"content_id":%d,"watch_seconds":%d,"rating":%.1f,"popularity":%.1f}',"""
        f" chosen({N_USERS}), chosen({vocabulary}), 60 + chosen(9000), chosen(100) / 10, chosen(1000) / 10)",
    )


EVENT = Load(
    "/v1/events",
    """string.format('{"user_id":%d,"item_id":%d,"event":"watch","watch_seconds":%d,"event_key":"%d-%d"}',"""
    f" chosen({N_USERS}), chosen({N_ITEMS}), 60 + chosen(9000), seed, counted())",
)
PREDICTIONS = ("predictions", "created_at", "bundle")
IMPRESSIONS = ("impressions", "served_at", "tier")

ROWS = (
    Row(
        "predict",
        f"POST /predict, vocabulary of {SMALL_VOCABULARY:,}",
        predict(SMALL_VOCABULARY),
        ("predictor", f"mlp {SMALL_VOCABULARY}"),
        6_000,
        15,
        logged=PREDICTIONS,
    ),
    Row(
        "latest",
        "GET /latest-recommendations",
        Load("/latest-recommendations"),
        ("predictor", f"mlp {SMALL_VOCABULARY}"),
        8_000,
        10,
    ),
    Row(
        "predict-10000",
        f"POST /predict, vocabulary of {N_ITEMS:,}",
        predict(N_ITEMS),
        ("predictor", f"mlp {N_ITEMS}"),
        3_000,
        25,
        logged=PREDICTIONS,
    ),
    Row(
        "precomputed",
        "GET recommendations, precomputed",
        LISTS,
        ("champion", "ease"),
        10_000,
        10,
        precomputed=True,
        logged=IMPRESSIONS,
    ),
    Row(
        "ease",
        "GET recommendations, EASE, fold-in of 50 events",
        LISTS,
        ("champion", "ease"),
        2_500,
        25,
        precomputed=False,
        logged=IMPRESSIONS,
    ),
    Row(
        "two-stage",
        "GET recommendations, two stages, 300 candidates",
        LISTS,
        ("champion", "two_stage"),
        500,
        90,
        precomputed=False,
        logged=IMPRESSIONS,
    ),
    Row(
        "events",
        "POST /v1/events, single, committed",
        EVENT,
        ("champion", "ease"),
        5_000,
        25,
        logged=("interactions", "ingested_at", "event"),
    ),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    names = [row.name for row in ROWS] + list(checks.CHECKS)
    parser.add_argument("--home", type=Path, help="a home that is prepared once and kept")
    parser.add_argument("--only", default=",".join(names), help=f"of: {', '.join(names)}; or none")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--warm-up", type=float, default=5.0, help="longest warm-up of a path, in seconds")
    parser.add_argument("--peers", action="store_true", help="measure other servers too")
    parser.add_argument(
        "--peers-python", default=".venv-serving-peers/bin/python", help="a Python that has them"
    )
    parser.add_argument("--soak", type=int, default=0, metavar="N", help="watch the memory over N requests")
    parser.add_argument("--plot", type=Path, help="draw the growth as a PNG")
    options = parser.parse_args()
    configure_logs(LogSettings(level="warning"))
    wanted = options.only.split(",")
    if unknown := sorted(set(wanted) - {*names, "none"}):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(names)}, none")
    with prepared(options.home) as home:
        for line in describe(home.notes):
            print(line)
        with shared_folder(home) as folder:
            baseline = bare(folder, options.seconds)
            print_outcome("bare Starlette + orjson, ten cards", baseline)
            table(
                home, [row for row in ROWS if row.name in wanted], baseline, options.seconds, options.warm_up
            )
            print_outcome("bare Starlette + orjson, once more", bare(folder, options.seconds))
            if options.peers:
                compare(home, options.peers_python, folder, options.seconds)
            else:
                print("not measured: other servers (make setup-serving-peers, then --peers)")
        for name, check in checks.CHECKS.items():
            if name in wanted:
                print(f"-- {name} (load of the machine {os.getloadavg()[0]:.1f})", flush=True)
                check(home, options)
        if options.soak:
            checks.soak(home, options.soak, {row.name: row.load for row in ROWS})


@contextmanager
def prepared(folder: Path | None) -> Iterator[Home]:
    """A home with everything in it, whose PostgreSQL runs on the core of the load."""
    with tempfile.TemporaryDirectory(prefix="marquee-serving-") as temporary:
        settings = Settings(home=folder or Path(temporary) / "home")
        settings.home.mkdir(parents=True, exist_ok=True)
        with Database.open(settings) as database:
            Home(settings, database).prepare()
        everywhere = os.sched_getaffinity(0)
        if len(everywhere) > 1:
            os.sched_setaffinity(0, {LOAD_CORE})
        with Database.open(settings) as database:
            home = Home(settings, database)
            home.reset()
            yield home
        os.sched_setaffinity(0, everywhere)


def table(home: Home, rows: list[Row], baseline: Outcome, seconds: float, warm_up: float) -> None:
    """Measure the rows on one server."""
    if not rows:
        return
    columns = (
        f"{'req/s':>9}{'goal':>8}{'p50 ms':>9}{'p99 ms':>9}{'goal':>6}{'of bare':>9}{'CPU µs':>8}{'load':>6}"
    )
    print(f"{'':<50}{columns}")
    home.put("predictor", f"mlp {SMALL_VOCABULARY}")
    home.put("champion", "ease")
    settings = {"MARQUEE_API__DEADLINE_MS": DEADLINE_MS, "MARQUEE_API__USER_CACHE_MIB": USER_CACHE_MIB}
    with checks.serving(home, **settings) as (server, wrk):
        present: bool | None = None
        checks.ask_for_everybody(server, home.service_key)
        for row in rows:
            if row.precomputed is not None and row.precomputed is not present:
                home.precompute(present=row.precomputed)
                present = row.precomputed
                checks.ask_for_everybody(server, home.service_key)  # while the quick champion answers
            checks.await_bundle(server, row.deployed[0], home.put(*row.deployed))
            measure(home, server, wrk, row, baseline, seconds, warm_up)
        print(f"private memory afterwards: {max(server.private_mib()):.0f} MiB")


def measure(
    home: Home, server: Server, wrk: Wrk, row: Row, baseline: Outcome, seconds: float, warm_up: float
) -> None:
    """One row."""
    first = wrk.run(row.load, warm_up)
    if first.refused == first.requests:
        print(f"{row.what:<50} not measured: all {first.requests} answers were errors")
        return
    time.sleep(0.5)  # what is still being written is not of the measurement
    began = datetime.now(UTC)
    found = wrk.run(row.load, seconds, server=server)
    print(
        f"{row.what:<50}{found.rate:>9,.0f}{row.at_least:>8,.0f}{found.p50:>9.1f}{found.p99:>9.1f}{row.p99:>6g}"
        f"{found.rate / baseline.rate:>9.0%}{found.cpu:>8.0f}{os.getloadavg()[0]:>6.1f}"
    )
    met = found.rate >= row.at_least and found.p99 <= row.p99 and not found.refused + found.broken
    remarks = [f"{'met' if met else 'missed'}; not 2xx {found.refused}, broken {found.broken}"]
    if row.logged:
        remarks.append(logged(home, row.logged, began, found.requests))
    print(f"    {'; '.join(remarks)}", flush=True)


def logged(home: Home, where: tuple[str, str, str], began: datetime, answers: int) -> str:
    """How many answers have left a row, by kind."""
    name, moment, kind = where
    time.sleep(0.5)
    rows = home.rows(
        f"SELECT {kind}, count(*) FROM {name} WHERE {moment} >= :began GROUP BY 1 ORDER BY 2 DESC",
        began=began,
    )
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in rows)
    return f"{sum(count for _, count in rows):,} rows in {name} of {answers:,} answers ({kinds})"


def compare(home: Home, python: str, folder: Path, seconds: float) -> None:
    """The same perceptron behind Marquee and its peers, taking turns."""
    home.put("predictor", f"mlp {SMALL_VOCABULARY}")
    load = ROWS[0].load
    print(
        f"{'the same perceptron behind':<30}{'req/s':>9}{'p99 ms':>9}{'Marquee':>10}{'ratio':>8}  to reach 5"
    )
    for peer in PEERS:
        with checks.serving(home) as (_, wrk):
            wrk.run(load, 2.0)
            ours = wrk.run(load, seconds)
        theirs = measure_peer(peer, python, folder, seconds)
        if isinstance(theirs, str):
            print(f"{peer.name:<30} not measured: {theirs}")
            continue
        print(
            f"{peer.name:<30}{theirs.rate:>9,.0f}{theirs.p99:>9.1f}{ours.rate:>10,.0f}"
            f"{ours.rate / theirs.rate:>8.1f}  not 2xx {theirs.refused}, broken {theirs.broken}",
            flush=True,
        )


def print_outcome(what: str, found: Outcome) -> None:
    """A line without goals."""
    print(
        f"{what:<50}{found.rate:>9,.0f}{'':>8}{found.p50:>9.1f}{found.p99:>9.1f}{'':>15}{found.cpu:>8.0f}"
        f"{os.getloadavg()[0]:>6.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
