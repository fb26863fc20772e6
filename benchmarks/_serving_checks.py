"""What the API does beside being fast: start, memory, growth, swaps, rollback, freshness, overload."""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from typing import Any

import httpx
import numpy as np

from _open_loop import Asked, open_loop, run
from _serving_home import CATALOGUE_SIZES, HISTORY_LENGTHS, N_ITEMS, N_USERS, SMALL_VOCABULARY, Home
from _serving_load import Load, Server, Wrk, get, without_settings

__all__ = ["CHECKS", "ask_for_everybody", "await_bundle", "serving", "soak"]

SWAPS = 50
STARTS = 5
ROLLBACKS = 5
BATCH_USERS = 1_000
PREDICTIONS_SHOWN = 50
CONNECTIONS_ASKED = 16
"""Enough that each of two processes holds some of them."""
LIFTED = {"MARQUEE_API__RATE_PER_KEY": "1000000/second", "MARQUEE_API__RATE_PER_ADDRESS": "1000000/second"}
"""All requests come from one address and one key."""
LISTS = "/v1/users/{}/recommendations?k=10"


@contextmanager
def serving(home: Home, **environment: str) -> Iterator[tuple[Server, Wrk]]:
    """`marquee serve` on the home, and a load generator that holds a service key."""
    key = home.service_key
    with Server.marquee(home.settings.home, **LIFTED, **environment) as server:
        yield server, Wrk(server.port, {"Authorization": f"Bearer {key}"})


def ask_for_everybody(server: Server, key: str) -> None:
    """Have a process read what there is to know of each user."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=120) as client:
        for first in range(1, N_USERS + 1, BATCH_USERS):
            body = {"user_ids": list(range(first, min(first + BATCH_USERS, N_USERS + 1))), "k": 10}
            answer = client.post(
                "/v1/recommendations/batch", json=body, headers={"Authorization": f"Bearer {key}"}
            )
            answer.raise_for_status()


def await_bundle(server: Server, slot: str, name: str) -> float:
    """Wait until every process answers with a bundle; the seconds that took."""
    began = time.perf_counter()
    with ExitStack() as stack:
        connections = [
            stack.enter_context(_closing(HTTPConnection("127.0.0.1", server.port, timeout=60)))
            for _ in range(CONNECTIONS_ASKED)
        ]
        while any(_asked(connection, "/health")[slot] != name for connection in connections):
            if time.perf_counter() - began > 60:
                sys.exit(f"{name} was deployed, and {get(server.port, '/health')} answers")
            time.sleep(0.005)
    return time.perf_counter() - began


def ready(home: Home, _options: argparse.Namespace) -> None:
    """Seconds from the command to the first answer of `/readyz`."""
    _deploy(home, "ease")
    starts = []
    for _ in range(STARTS):
        with serving(home) as (server, _wrk):
            starts.append(server.ready_seconds)
    print(
        f"marquee serve is ready in {statistics.median(starts):.2f} s (median of {STARTS}; "
        f"{min(starts):.2f} to {max(starts):.2f}); to reach 1.5 s"
    )


def memory(home: Home, options: argparse.Namespace) -> None:
    """Private memory of two processes that share their bundles."""
    _deploy(home, "ease")
    with serving(home, MARQUEE_API__PROCESSES="2") as (server, wrk):
        print(f"private memory per process at the start: {_memory(server)} MiB; to stay below 350")
        wrk.run(Load(LISTS.format("$user"), users=(1, N_USERS)), options.seconds)
        print(f"after {options.seconds:g} s of lists: {_memory(server)} MiB")


def growth(home: Home, options: argparse.Namespace) -> None:
    """Processor time per list against the length of the history, and the size of the catalogue."""
    _deploy(home, "ease")
    home.precompute(present=False)
    lengths, sizes = {}, {}
    with serving(home, MARQUEE_API__DEADLINE_MS="10000") as (server, wrk):
        for length in HISTORY_LENGTHS:
            lengths[length] = _cost(server, wrk, home.users_of_length(length), options.seconds)
        for size in CATALOGUE_SIZES:
            name = "ease" if size == N_ITEMS else f"ease of {size}"
            await_bundle(server, "champion", home.put("champion", name))
            sizes[size] = _cost(server, wrk, home.users_of_length(50), options.seconds)
    home.put("champion", "ease")
    for what, costs in (("events of the user", lengths), ("items of the catalogue", sizes)):
        print(f"{what:>24}{'CPU µs':>9}   growth since the line before, against linear 1")
        before: tuple[int, float] | None = None
        for size, cost in costs.items():
            exponent = np.log(cost / before[1]) / np.log(size / before[0]) if before else float("nan")
            bar = "█" * round(40 * cost / max(costs.values()))
            print(f"{size:>24,}{cost:>9.0f}{exponent:>7.2f}   {bar}")
            before = (size, cost)
    if options.plot:
        _draw(options.plot, lengths, sizes)


def swaps(home: Home, options: argparse.Namespace) -> None:
    """Fifty swaps at half of what the server carries: failures, and the longest wait with and without."""
    _deploy(home, "ease")
    home.precompute(present=False)
    with serving(home) as (server, wrk):
        load = Load(LISTS.format("$user"), users=(1, N_USERS))
        ask_for_everybody(server, home.service_key)  # its cache of users is as full as it gets
        peak = wrk.run(load, options.seconds)
        before = max(server.private_mib())
        rate = peak.rate / 2
        still = run(open_loop(server.port, _lists(wrk), rate, lambda now: now > options.seconds))
        taken: list[float] = []

        async def swapping() -> Asked:
            done = asyncio.Event()

            async def swap() -> None:
                for number in range(SWAPS):
                    name = await asyncio.to_thread(
                        home.put, "champion", "ease" if number % 2 else "ease again"
                    )
                    taken.append(await asyncio.to_thread(await_bundle, server, "champion", name))
                done.set()

            task = asyncio.create_task(swap())
            asked = await open_loop(server.port, _lists(wrk), rate, lambda _: done.is_set())
            await task
            return asked

        moved = run(swapping())
        after = max(server.private_mib())
    print(f"{SWAPS} swaps, median {1000 * statistics.median(taken):.0f} ms each, at {rate:,.0f} req/s")
    for what, asked in (("without swaps", still), ("with swaps", moved)):
        failed = asked.offered - asked.counts()[200]
        print(
            f"{what:<14} {asked.offered:>7,} requests, failed {failed} (by status {dict(asked.counts())}, "
            f"broken {asked.broken}), p50 {asked.percentile(50):.1f} ms, "
            f"p99.9 {asked.percentile(99.9):.1f} ms, longest {asked.percentile(100):.1f} ms (to reach 20)"
        )
    print(
        f"private memory {before:.0f} MiB before, {after:.0f} MiB after "
        f"({after / before - 1:+.1%}; to stay within 5 %)"
    )


def rollback(home: Home, _options: argparse.Namespace) -> None:
    """Seconds from `marquee rollback` until every process answers with the champion before."""
    _deploy(home, "ease")
    times = []
    with serving(home, MARQUEE_API__PROCESSES="2") as (server, _wrk):
        for _ in range(ROLLBACKS):
            before, champion = home.put("champion", "ease again"), home.put("champion", "ease")
            await_bundle(server, "champion", champion)
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "marquee.cli", "rollback"],
                env=without_settings(MARQUEE_HOME=str(home.settings.home)),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            await_bundle(server, "champion", before)
            times.append(time.perf_counter() - began)
            _, said = process.communicate()
            if process.returncode:
                sys.exit(said.decode())
    print(
        f"marquee rollback: both processes answer with the champion before after "
        f"{statistics.median(times):.2f} s (longest of {len(times)}: {max(times):.2f}); to reach 2 s"
    )


def fresh(home: Home, _options: argparse.Namespace) -> None:
    """How soon `/latest-recommendations` of all processes shows an answer of `/predict`."""
    _deploy(home, "ease")
    with serving(home, MARQUEE_API__PROCESSES="2") as (server, _wrk), ExitStack() as stack:
        connections = [
            stack.enter_context(_closing(HTTPConnection("127.0.0.1", server.port, timeout=60)))
            for _ in range(CONNECTIONS_ASKED)
        ]
        waits, rng = [], random.Random(0)
        for number in range(PREDICTIONS_SHOWN):
            body = {
                "user_id": rng.randrange(1, N_USERS),
                "content_id": rng.randrange(1, SMALL_VOCABULARY),
                "watch_seconds": rng.randrange(60, 9_000),
                "rating": 7.0,
                "popularity": 100.0 * rng.random(),
            }
            one = connections[number % len(connections)]
            answer = _asked(one, "/predict", body)["recommendations"]
            began = time.perf_counter()
            wanted = [film["content_id"] for film in answer][:5]
            for connection in connections:
                while [
                    film["content_id"]
                    for film in _asked(connection, "/latest-recommendations?k=5")["recent_recommendations"]
                ] != wanted:
                    if time.perf_counter() - began > 10:
                        sys.exit("a prediction did not come into the log")
            waits.append(1000 * (time.perf_counter() - began))
    print(
        f"a prediction is shown by both processes after {statistics.median(waits):.0f} ms "
        f"(longest of {len(waits)}: {max(waits):.0f}); to reach 100 ms"
    )


def overload(home: Home, options: argparse.Namespace) -> None:
    """
    Twice the load that the server carries: what still gets through, and how long that waits.

    Peak is what 32 connections reach that ask again at once; then twice as many requests are offered at a
    constant rate over up to 1,000 connections, and a wait counts from when a request was due.
    """
    _deploy(home, "ease")
    home.precompute(present=False)
    with serving(home) as (server, wrk):
        load = Load(LISTS.format("$user"), users=(1, N_USERS))
        wrk.run(load, options.seconds)
        peak = wrk.run(load, options.seconds)
        asked = run(open_loop(server.port, _lists(wrk), 2 * peak.rate, lambda now: now > options.seconds))
    good = asked.counts()[200] / asked.seconds
    offered = asked.offered / asked.seconds
    print(f"peak {peak.rate:,.0f} req/s, p99 {peak.p99:.1f} ms; offered {offered:,.0f} req/s")
    others = ", ".join(f"{count:,} × {status}" for status, count in asked.counts().items() if status != 200)
    print(
        f"goodput {good:,.0f} req/s, {good / peak.rate:.0%} of the peak (to reach 90 %); p99 of accepted "
        f"{asked.percentile(99):.1f} ms, {asked.percentile(99) / peak.p99:.1f} × (to reach 3); {others}; "
        f"p99 of refused {asked.percentile(99, 503):.1f} ms; broken {asked.broken}"
    )


def soak(home: Home, requests: int, loads: Mapping[str, Load]) -> None:
    """Memory over many requests of all kinds in turn."""
    _deploy(home, "ease")
    kinds = [loads[name] for name in ("predict", "latest", "ease", "events")]
    with serving(home, MARQUEE_API__DEADLINE_MS="10000") as (server, wrk):
        asked, refused = 0, 0
        memory: list[tuple[int, float]] = []
        while asked < requests:
            for load in kinds:
                found = wrk.run(load, 5.0)
                asked, refused = asked + found.requests, refused + found.refused + found.broken
            memory.append((asked, max(server.private_mib())))
            print(f"{asked:>12,} requests: {memory[-1][1]:.1f} MiB private, {refused} failed", flush=True)
    settled = [mib for n, mib in memory if n >= requests / 4] or [memory[-1][1]]
    print(
        f"from a quarter of the way: {min(settled):.0f} to {max(settled):.0f} MiB; to stay below 350 and flat"
    )


CHECKS: Mapping[str, Callable[[Home, argparse.Namespace], None]] = {
    "ready": ready,
    "memory": memory,
    "growth": growth,
    "swaps": swaps,
    "rollback": rollback,
    "fresh": fresh,
    "overload": overload,
}


def _deploy(home: Home, champion: str) -> str:
    home.put("predictor", f"mlp {SMALL_VOCABULARY}")
    return home.put("champion", champion)


def _cost(server: Server, wrk: Wrk, users: tuple[int, int], seconds: float) -> float:
    load = Load(LISTS.format("$user"), users=users)
    wrk.run(load, 1.0)
    return wrk.run(load, max(seconds / 2, 1.0), server=server).cpu


def _lists(wrk: Wrk) -> Callable[[], bytes]:
    rng = random.Random(0)
    lines = "".join(f"{name}: {value}\r\n" for name, value in wrk.headers.items())

    def request() -> bytes:
        path = LISTS.format(rng.randrange(1, N_USERS + 1))
        return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()

    return request


def _memory(server: Server) -> str:
    return ", ".join(f"{mib:.0f}" for mib in server.private_mib())


@contextmanager
def _closing(connection: HTTPConnection) -> Iterator[HTTPConnection]:
    try:
        yield connection
    finally:
        connection.close()


def _asked(connection: HTTPConnection, path: str, body: Mapping[str, Any] | None = None) -> Any:
    if body is None:
        connection.request("GET", path)
    else:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return json.loads(connection.getresponse().read())


def _draw(path: Any, lengths: Mapping[int, float], sizes: Mapping[int, float]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, costs, what in zip(
        axes, (lengths, sizes), ("events of the user", "items of the catalogue"), strict=True
    ):
        axis.plot(list(costs), list(costs.values()), marker="o")
        axis.set(xlabel=what, ylabel="µs of the processor per list", xlim=0, ylim=0)
    figure.savefig(path, dpi=120)
    print(f"drawn: {path}")
