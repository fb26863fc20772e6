"""
A virtual audience that visits a running API over HTTP.

Each visit asks for recommendations, and the list comes on screen. Who chooses one of its films clicks,
watches and may rate; who does not may watch a film found elsewhere. When films are talked about, some come
for one of them and watch it, be it on the list or not. What a visitor does with a list depends on the seed,
the user, the number of the visit, the list and the world of the moment alone.
"""

import asyncio
import ipaddress
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pyarrow as pa

from marquee.data import Catalog
from marquee.simulate.audience import Audience
from marquee.simulate.config import AudienceConfig, LiveConfig
from marquee.simulate.drift import DriftConfig, drifted
from marquee.simulate.truth import runtime_seconds
from marquee.simulate.world import World

__all__ = ["LiveReport", "check_address", "fetch_world", "play"]

PAGE = 100


@dataclass(slots=True)
class LiveReport:
    """
    What happened.

    Attributes:
        answers, clicks: by bundle.
        affinity: sum of the true affinities of the films shown, by bundle; `shown` is their number.
        tiers: answers by tier.
        errors: by status and kind of problem.
        latencies_ms: of each answer.
        elsewhere: films watched that no list had shown.
        drifted: visits after the world had changed.
    """

    answers: Counter[str] = field(default_factory=Counter)
    clicks: Counter[str] = field(default_factory=Counter)
    affinity: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    shown: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    elsewhere: int = 0
    drifted: int = 0
    seconds: float = 0.0

    def mean_affinity(self, bundle: str | None = None) -> float:
        """Mean true affinity of the films shown, by one bundle or all; NaN where none was."""
        shown = self.shown.total() if bundle is None else self.shown[bundle]
        total = sum(self.affinity.values()) if bundle is None else self.affinity[bundle]
        return total / shown if shown else float("nan")

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        answers = self.answers.total()
        p50, p95 = np.percentile(self.latencies_ms, [50, 95]) if self.latencies_ms else (None, None)
        return {
            "seconds": self.seconds,
            "answers": answers,
            "clicks": self.clicks.total(),
            "click_rate": self.clicks.total() / answers if answers else None,
            "mean_affinity": self.mean_affinity() if answers else None,
            "watched_elsewhere": self.elsewhere,
            "drifted": self.drifted,
            "errors": dict(self.errors),
            "tiers": dict(self.tiers),
            "p50_ms": p50,
            "p95_ms": p95,
            "bundles": {
                bundle: {
                    "answers": count,
                    "click_rate": self.clicks[bundle] / count,
                    "mean_affinity": self.mean_affinity(bundle),
                }
                for bundle, count in self.answers.items()
            },
        }


def check_address(url: str, *, allow_remote: bool = False) -> str:
    """
    The address of an API that may be played against.

    Raises:
        ValueError: it is no HTTP address, or lies on another machine without `allow_remote`.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"The address of an API is needed, such as http://127.0.0.1:8000, not {url!r}")
    is_local = parts.hostname == "localhost"
    with suppress(ValueError):
        is_local = is_local or ipaddress.ip_address(parts.hostname).is_loopback
    if not (is_local or allow_remote):
        raise ValueError(
            f"{parts.hostname} is another machine: its real users would be mixed with virtual ones. "
            "Add --allow-remote if that is meant"
        )
    return url.rstrip("/")


async def fetch_world(client: httpx.AsyncClient, audience: AudienceConfig) -> World:
    """
    The tastes of an audience over the catalogue that an API shows.

    Args:
        client: with the address of the API as base.
        audience: as it watched before; whoever is asked for beyond its users is new.

    Raises:
        httpx.HTTPError: the API does not answer, or refuses.
        ValueError: its catalogue is empty.
    """
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await client.get("/v1/items", params={"limit": PAGE} | ({"cursor": cursor} if cursor else {}))
        page.raise_for_status()
        body = page.json()
        rows += body["items"]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    rows.sort(key=lambda row: row["item_id"])
    released = [row["release_date"] and date.fromisoformat(row["release_date"]) for row in rows]
    catalog = Catalog(
        pa.table(
            {
                "item_id": pa.array([row["item_id"] for row in rows], pa.int64()),
                "title": [row["title"] for row in rows],
                "genres": pa.array([row["genres"] for row in rows], pa.list_(pa.string())),
                "release_date": pa.array(released, pa.date32()),
                "runtime_minutes": pa.array([row["runtime_minutes"] for row in rows], pa.int32()),
            }
        )
    )
    popularity = np.array([row["popularity"] or np.nan for row in rows], dtype=np.float64)
    return World(Audience(catalog, popularity, audience).truth(), audience, runtime_seconds(catalog))


async def play(
    client: httpx.AsyncClient, world: World, config: LiveConfig, drift: DriftConfig | None = None
) -> LiveReport:
    """
    Visit an API until all visits have ended.

    Args:
        client: with the address of the API as base.
        world: of `fetch_world`, for at least as many users as visit.
        drift: how the world changes on the way.

    Raises:
        httpx.HTTPError: the API takes no new films.
    """
    report = LiveReport()
    started = perf_counter()
    free = asyncio.Semaphore(config.concurrency)
    turns = [asyncio.Lock() for _ in range(config.users)]

    async def visit(now: World, number: int, who: int) -> None:
        try:
            async with turns[who]:  # nobody is in two places at once
                await _visit(client, now, config, int(now.truth.users.ids[who]), number, report)
        except httpx.HTTPStatusError as error:
            report.errors[_problem(error.response)] += 1
        except httpx.HTTPError as error:
            report.errors[type(error).__name__] += 1
        finally:
            free.release()

    async def begin(some: Iterable[tuple[int, int]], now: World) -> None:
        async with asyncio.TaskGroup() as visits:
            for index, who in some:
                await asyncio.sleep(max(0.0, started + index / config.rate - perf_counter()))
                await free.acquire()
                visits.create_task(visit(now, visited[who], who))
                visited[who] += 1

    visited = [0] * config.users
    planned = list(enumerate(_visitors(config)))
    before = len(planned) if drift is None else drift.after
    await begin(planned[:before], world)
    if drift is not None and before < len(planned):
        await begin(planned[before:], await _change(client, world, drift))
        report.drifted = len(planned) - before
    report.seconds = perf_counter() - started
    return report


async def _change(client: httpx.AsyncClient, world: World, drift: DriftConfig) -> World:
    changed, films = drifted(world, drift)
    for start in range(0, len(films), PAGE):
        answer = await client.put("/v1/items", json={"items": films[start : start + PAGE]})
        answer.raise_for_status()
    return changed


def _visitors(config: LiveConfig) -> list[int]:
    """Who comes when; in turn: in each round everybody once, in another order."""
    random = np.random.default_rng(config.seed)
    if not config.in_turn:
        return [int(who) for who in random.integers(0, config.users, config.visits)]
    rounds = -(-config.visits // config.users)
    return [int(who) for _ in range(rounds) for who in random.permutation(config.users)][: config.visits]


async def _visit(
    client: httpx.AsyncClient,
    world: World,
    config: LiveConfig,
    user_id: int,
    number: int,
    report: LiveReport,
) -> None:
    random = np.random.default_rng([config.seed, user_id, number])
    asked = perf_counter()
    answer = await client.get(f"/v1/users/{user_id}/recommendations", params={"k": config.k})
    answer.raise_for_status()
    report.latencies_ms.append(1000 * (perf_counter() - asked))
    body = answer.json()
    bundle, request_id = body["bundle"], body["request_id"]
    item_ids = [item["item_id"] for item in body["items"]]
    affinity = world.affinity(user_id, item_ids)
    report.answers[bundle] += 1
    report.tiers[body["tier"]] += 1
    report.shown[bundle] += len(item_ids)
    report.affinity[bundle] += float(affinity.sum())

    events: list[dict[str, Any]] = [{"event": "view"}]
    wanted = world.come_for(user_id, random)
    if wanted is None:
        chosen = world.choose(affinity, config, random)
    else:
        chosen = item_ids.index(wanted) if wanted in item_ids else None
    if chosen is not None:
        report.clicks[bundle] += 1
        events.append({"event": "click", "item_id": item_ids[chosen]})
        events += world.watch(item_ids[chosen], float(affinity[chosen]), config, random)
    sent = [{**event, "request_id": request_id} for event in world.reported(user_id, events)]
    await _send(client, user_id, sent)
    if chosen is None and (wanted is not None or random.random() < config.elsewhere):
        report.elsewhere += 1
        item_id = world.find_elsewhere(user_id, random) if wanted is None else wanted
        found = world.watch(item_id, float(world.affinity(user_id, [item_id])[0]), config, random)
        await _send(client, user_id, world.reported(user_id, found))


async def _send(client: httpx.AsyncClient, user_id: int, events: Sequence[Mapping[str, Any]]) -> None:
    body = {"events": [{**event, "user_id": user_id} for event in events]}
    (await client.post("/v1/events", json=body)).raise_for_status()


def _problem(response: httpx.Response) -> str:
    kind = ""
    with suppress(ValueError):
        kind = str(response.json().get("type", "")).rpartition("/")[2]
    return f"{response.status_code} {kind}".strip()
