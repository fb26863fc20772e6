"""
A virtual audience that visits the real API over HTTP, its time spread over simulated days.

The API runs on a port of its own and takes its times from the clock, so a year of visits is over in a
minute. What they left is then put aside, and given back day by day with its times moved to that day: each
visit to a moment drawn from a calendar with busier weekends, and all that came of it by as much. Between
days there is nothing in the tables that lies ahead, so whatever watches them is asked what it would have
been asked on that day.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import psycopg
import uvicorn
from pydantic import SecretStr
from sqlalchemy import Connection, text

from marquee.api.app import create_app
from marquee.config import Settings
from marquee.data import Catalog
from marquee.ingest.sample import ingest_sample
from marquee.models.ease import Ease
from marquee.monitoring.watch import look
from marquee.simulate import Audience, AudienceConfig, DriftConfig, LiveConfig
from marquee.simulate.drift import DriftKind
from marquee.simulate.live import LiveReport, fetch_world, play
from marquee.store import bundles
from marquee.store.embedded import EmbeddedServer
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, interactions, items
from marquee.store.tables import impressions as impressions_table
from marquee.store.tables import interactions as interactions_table

__all__ = ["ALARMS", "Calendar", "PlayedAudience", "Raised", "copied", "midnight"]

sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
# httpcore looks for it several times a request, through all of sys.path: half of the time of a visit.

ALARMS: Mapping[DriftKind, str] = {
    "taste": "taste",
    "releases": "new_releases",
    "popularity": "popularity",
    "feed": "feed",
}
"""Drift → the alarm that is to tell of it."""

ASIDE = """
CREATE SCHEMA IF NOT EXISTS played;
DROP TABLE IF EXISTS played.impressions, played.interactions;
CREATE TABLE played.impressions AS
SELECT i.*, t.moment - i.served_at AS shift
FROM (
    SELECT *, row_number() OVER (ORDER BY served_at, request_id) AS visit
    FROM impressions WHERE served_at >= :began
) AS i
JOIN unnest(CAST(:moments AS timestamptz[])) WITH ORDINALITY AS t (moment, visit) USING (visit);
CREATE INDEX ON played.impressions (user_id, served_at);
CREATE TABLE played.interactions AS
SELECT e.*, v.shift
FROM interactions AS e
CROSS JOIN LATERAL (
    SELECT shift FROM played.impressions AS p
    WHERE p.user_id = e.user_id AND p.served_at <= e.occurred_at ORDER BY p.served_at DESC LIMIT 1
) AS v
WHERE e.interaction_id > :last;
DELETE FROM impressions WHERE served_at >= :began;
DELETE FROM interactions WHERE interaction_id > :last
"""
"""An event is of the newest answer that its user had: nobody is in two places at once."""
GIVE_BACK = """
WITH due AS (DELETE FROM played.{table} WHERE {moment} + shift < :until RETURNING *)
INSERT INTO {table} ({columns}) SELECT {values} FROM due ORDER BY {moment}
"""


@dataclass(frozen=True, slots=True)
class Calendar:
    """
    When visits are.

    Attributes:
        per_day: mean visits of a day.
        weekend_factor: visits of a Saturday or Sunday against those of another day.
    """

    per_day: float = 40.0
    weekend_factor: float = 1.6

    def moments(self, first: datetime, days: int, random: np.random.Generator) -> list[datetime]:
        """Moments of the visits of so many days, in order; how many are on a day is left to chance."""
        weekend = np.array([(first + timedelta(days=day)).weekday() >= 5 for day in range(days)])
        weights = np.where(weekend, self.weekend_factor, 1.0)
        visits = round(self.per_day * days)
        drawn = np.sort(random.choice(days, visits, p=weights / weights.sum()) + random.random(visits))
        return [first + timedelta(days=float(day)) for day in drawn]


@dataclass(frozen=True, slots=True)
class Raised:
    """
    An alarm.

    Attributes:
        day: whole days since the watch began.
        events: that came in since then.
    """

    kind: str
    day: int
    events: int


class PlayedAudience:
    """
    An installation and those who visit it.

    Args:
        settings: of its home.
        database: open, and empty but for what `begin` has put there.
        audience: who visits.
        calendar: when.
    """

    def __init__(
        self, settings: Settings, database: Database, audience: AudienceConfig, calendar: Calendar
    ) -> None:
        # With time enough on a busy machine: no list is to come from elsewhere than the champion.
        limits = {
            "rate_per_address": "100000/second",
            "rate_per_key": "100000/second",
            "deadline_ms": 10_000,
            "database_seconds": 60,
        }
        self.settings = settings.model_copy(
            update={
                "api": settings.api.model_copy(update=limits),
                "database": settings.database.model_copy(update={"url": SecretStr(database.url)}),
            }
        )
        self.database = database
        self.audience = audience
        self.calendar = calendar

    def begin(self, films: int = 300) -> None:
        """A catalogue, what the audience has watched before, and a champion that has learnt from it."""
        ingest_sample(self.database, ObjectStore(self.settings.paths.objects), limit=films)
        catalog = items.load_catalog(self.database)
        made = Audience(catalog, self._popularity(catalog), self.audience).simulate().interactions
        keys = [str(row) for row in range(len(made))]
        with self.database.begin() as connection:
            interactions.load_interactions(
                connection,
                made.to_arrow().append_column("event_key", [keys]),
                source="audience",
                kind="virtual",
            )
        self.train()

    def train(self) -> None:
        """Put a champion in its place that knows all that has been watched."""
        catalog = items.load_catalog(self.database)
        model = Ease().fit(interactions.load(self.database), catalog)
        ref = bundles.publish(
            ObjectStore(self.settings.paths.objects),
            model.state(),
            model=model.name,
            cards=catalog.table,
            metrics={},
            snapshot="none",
            code_version="played",
        )
        with self.database.begin() as connection:
            deployments.append(
                connection,
                "champion",
                bundle=ref.key,
                digest=ref.digest,
                model=ref.model,
                version=ref.version,
                deployed_by="played",
                reason="trained",
            )

    async def play(
        self, first: datetime, days: int, *, seed: int, drift: DriftConfig | None = None
    ) -> LiveReport:
        """
        Have the audience visit for so many days, and put aside what they leave.

        Args:
            first: begin of the first day, before the visits of no other play.
            seed: of what visitors do; another one for each play.
            drift: how the world changes on the way.
        """
        moments = self.calendar.moments(first, days, np.random.default_rng([seed, 1]))
        rate = 1e6
        config = LiveConfig(
            users=self.audience.users,
            rate=rate,
            seconds=(len(moments) + 0.5) / rate,
            seed=seed,
            elsewhere=1.0,
            rates=1.0,
            concurrency=4,
            in_turn=False,
        )
        with self.database.begin() as connection:
            last = connection.execute(text("SELECT max(interaction_id) FROM interactions")).scalar_one() or 0
        began = datetime.now(UTC)
        async with serving(self.settings) as client:
            world = await fetch_world(client, self.audience)
            report = await play(client, world, config, drift)
        if report.errors or report.answers.total() != len(moments):
            raise RuntimeError(f"{len(moments)} visits were planned: {report.as_json()}")
        with self.database.begin() as connection:
            for statement in ASIDE.split(";"):
                connection.execute(text(statement), _of(statement, began=began, last=last, moments=moments))
            _ensure_partition(connection, first, first + timedelta(days=days))
        return report

    def give_back(self, until: datetime) -> None:
        """What was put aside and happened before a moment is in the tables again, with its times."""
        with self.database.begin() as connection:
            connection.execute(_give_back(impressions_table, "served_at"), {"until": until})
            connection.execute(_give_back(interactions_table, "occurred_at"), {"until": until})

    def watch(self, first: datetime, days: int, *, every: int = 1) -> list[Raised]:
        """
        Live through what was put aside, with a look of monitoring at the end of each day.

        Args:
            first: begin of the first day.
            every: look only at the end of every so many days, and of the last.
        """
        objects = ObjectStore(self.settings.paths.objects)
        with self.database.begin() as connection:
            before = _rows(connection)
        raised = []
        for day in range(1, days + 1):
            now = first + timedelta(days=day)
            self.give_back(now)
            if day % every and day < days:
                continue
            found = look(self.settings, self.database, objects, now)
            for kind in found.raised:
                with self.database.begin() as connection:
                    raised.append(Raised(kind, day, _rows(connection) - before))
        return raised

    def _popularity(self, catalog: Catalog) -> np.ndarray[Any, np.dtype[np.float32]]:
        facts = items.facts_as_of(self.database, datetime.now(UTC))
        known = dict(zip(facts["item_id"].to_pylist(), facts["popularity"].to_pylist(), strict=True))
        return np.array([known.get(item_id) or np.nan for item_id in catalog.item_ids], dtype=np.float32)


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, which is on a port of its own."""
    config = uvicorn.Config(create_app(settings), host="127.0.0.1", port=0, log_config=None)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(60):
        while not server.started:
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        await task  # whatever was still to be written is written then


def midnight() -> datetime:
    """When today began."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@contextlib.contextmanager
def copied(server: EmbeddedServer, settings: Settings, template: str, name: str) -> Iterator[Database]:
    """A database that begins as a copy of another, which nobody may be using; it is gone afterwards."""
    url = SecretStr(server.url_of(name))
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        own = settings.model_copy(update={"database": settings.database.model_copy(update={"url": url})})
        try:
            with Database.open(own) as database:
                yield database
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _rows(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM interactions")).scalar_one())


def _of(statement: str, **values: Any) -> dict[str, Any]:
    """Those of the values that a statement names."""
    return {name: value for name, value in values.items() if f":{name}" in statement}


def _give_back(table: Any, moment: str) -> Any:
    """All columns as they were, but the times by as much later as the visit is."""
    kept = [column.name for column in table.columns if column.name != "interaction_id"]
    times = {"served_at", "viewed_at", "occurred_at", "ingested_at"}
    values = [f"{name} + shift" if name in times else name for name in kept]
    return text(
        GIVE_BACK.format(table=table.name, moment=moment, columns=", ".join(kept), values=", ".join(values))
    )


def _ensure_partition(connection: Connection, first: datetime, until: datetime) -> None:
    """One for all days, but for today and tomorrow, which have their own of the API."""
    tomorrow = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    first = max(first, tomorrow + timedelta(days=1)) if until > tomorrow else first
    if first < until:
        connection.execute(
            text(
                f"CREATE TABLE impressions_from_{first:%Y%m%d} PARTITION OF impressions "
                f"FOR VALUES FROM ('{first.isoformat()}') TO ('{until.isoformat()}')"
            )
        )
