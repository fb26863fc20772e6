"""
A virtual audience that visits a running API over HTTP.

Each visit asks for recommendations, and the list comes on screen. The visitor chooses at most one of its
films, by affinity and with less attention the further down it stands, against doing something else: the same
Plackett-Luce choice as in `audience`, with an outside option. Who chooses clicks, watches and may rate; who
does not may watch a film found elsewhere. What a visitor does with a list depends on the seed, the user, the
number of the visit and the list alone.
"""

import asyncio
import ipaddress
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
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
from marquee.data.schema import Vector
from marquee.simulate.audience import Audience
from marquee.simulate.config import AudienceConfig
from marquee.simulate.truth import Truth, runtime_seconds

__all__ = ["LiveConfig", "LiveReport", "World", "check_address", "fetch_world", "play"]

PAGE = 100


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """
    How an audience visits.

    Attributes:
        users: who visit, the first of the audience, each as often as any other.
        rate: visits per second, as far as the API keeps up.
        seconds: for how long new visits begin.
        seed: of what visitors do; their tastes are those of the audience.
        k: films asked for.
        outside: affinity of a film that would be chosen as often as something else.
        elsewhere: probability that who chooses nothing of the list watches another film.
        rates: probability that a film watched is rated.
        concurrency: visits under way at most.
    """

    users: int = 100
    rate: float = 20.0
    seconds: float = 30.0
    seed: int = 0
    k: int = 10
    outside: float = 0.6
    elsewhere: float = 0.5
    rates: float = 0.3
    concurrency: int = 32

    def __post_init__(self) -> None:
        for name in ("users", "rate", "seconds", "k", "concurrency"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")

    @property
    def visits(self) -> int:
        """How many."""
        return max(1, math.floor(self.rate * self.seconds))


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
    """

    answers: Counter[str] = field(default_factory=Counter)
    clicks: Counter[str] = field(default_factory=Counter)
    affinity: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    shown: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    elsewhere: int = 0
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


@dataclass(frozen=True, eq=False, slots=True)
class World:
    """
    The truth about an audience, and what follows from it.

    Attributes:
        runtime: (n_items,) seconds, in the order of `truth.items`.
    """

    truth: Truth
    audience: AudienceConfig
    runtime: Vector

    def affinity(self, user_id: int, item_ids: Sequence[int]) -> Vector:
        """(n,) affinities, 0 for films that came after the audience."""
        index = self.truth.items.index(np.asarray(item_ids, dtype=np.int64))
        made = np.zeros(len(index), dtype=np.float32)
        known = index >= 0
        if known.any():
            made[known] = self.truth.affinity([user_id], np.asarray(item_ids)[known])[0]
        return made

    def choose(self, affinity: Vector, config: LiveConfig, random: np.random.Generator) -> int | None:
        """The place of the film chosen of a list, None for something else."""
        truth = self.truth
        appeal = truth.choice_sharpness * affinity - truth.position_bias * np.log1p(np.arange(len(affinity)))
        options = np.append(appeal, truth.choice_sharpness * config.outside)
        chosen = int((options + random.gumbel(size=len(options))).argmax())
        return None if chosen == len(affinity) else chosen

    def find_elsewhere(self, user_id: int, random: np.random.Generator) -> int:
        """A film come across without a list: by popularity and affinity."""
        appeal = self.truth.choice_sharpness * self.truth.affinity([user_id])[0]
        appeal = appeal + np.log(self.truth.shelf[0].clip(1e-12))
        return int(self.truth.items.ids[(appeal + random.gumbel(size=len(appeal))).argmax()])

    def watch(
        self, item_id: int, affinity: float, config: LiveConfig, random: np.random.Generator
    ) -> list[dict[str, Any]]:
        """What watching a film leaves behind, as in `audience`."""
        index = self.truth.items.index(np.array([item_id]))[0]
        runtime = float(self.runtime[index] if index >= 0 else np.median(self.runtime))
        share = 1.1 / (1 + math.exp(-(4 * affinity + self.audience.watch_noise * random.standard_normal())))
        made: list[dict[str, Any]] = [
            {"item_id": item_id, "event": "watch", "watch_seconds": math.floor(runtime * min(share, 1.0))}
        ]
        rating = 4.5 + 4 * affinity + self.audience.rating_noise * random.standard_normal()
        if random.random() < config.rates:
            made.append(
                {"item_id": item_id, "event": "rate", "rating": min(max(round(2 * rating) / 2, 0), 10)}
            )
        return made


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


async def play(client: httpx.AsyncClient, world: World, config: LiveConfig) -> LiveReport:
    """
    Visit an API until all visits have ended.

    Args:
        client: with the address of the API as base.
        world: of `fetch_world`, for at least as many users as visit.
    """
    report = LiveReport()
    started = perf_counter()
    free = asyncio.Semaphore(config.concurrency)
    turns = [asyncio.Lock() for _ in range(config.users)]

    async def visit(number: int, who: int) -> None:
        try:
            async with turns[who]:  # nobody is in two places at once
                await _visit(client, world, config, int(world.truth.users.ids[who]), number, report)
        except httpx.HTTPStatusError as error:
            report.errors[_problem(error.response)] += 1
        except httpx.HTTPError as error:
            report.errors[type(error).__name__] += 1
        finally:
            free.release()

    async with asyncio.TaskGroup() as visits:
        for index, who in enumerate(_visitors(config)):
            await asyncio.sleep(max(0.0, started + index / config.rate - perf_counter()))
            await free.acquire()
            visits.create_task(visit(index // config.users, who))
    report.seconds = perf_counter() - started
    return report


def _visitors(config: LiveConfig) -> list[int]:
    """Who comes when: in each round everybody once, in another order."""
    random = np.random.default_rng(config.seed)
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
    chosen = world.choose(affinity, config, random)
    if chosen is not None:
        report.clicks[bundle] += 1
        events.append({"event": "click", "item_id": item_ids[chosen]})
        events += world.watch(item_ids[chosen], float(affinity[chosen]), config, random)
    await _send(client, user_id, [{**event, "request_id": request_id} for event in events])
    if chosen is None and random.random() < config.elsewhere:
        report.elsewhere += 1
        item_id = world.find_elsewhere(user_id, random)
        found = world.watch(item_id, float(world.affinity(user_id, [item_id])[0]), config, random)
        await _send(client, user_id, found)


async def _send(client: httpx.AsyncClient, user_id: int, events: Sequence[Mapping[str, Any]]) -> None:
    body = {"events": [{**event, "user_id": user_id} for event in events]}
    (await client.post("/v1/events", json=body)).raise_for_status()


def _problem(response: httpx.Response) -> str:
    kind = ""
    with suppress(ValueError):
        kind = str(response.json().get("type", "")).rpartition("/")[2]
    return f"{response.status_code} {kind}".strip()
